"""Reward functions for online training: those of a rule, and those of reward models."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from modelforge.data.chat_templates import fold_system
from modelforge.modeling.reward_rules import Rule
from modelforge.modeling.tokenize.template import TEMPLATE_ERRORS
from modelforge.modeling.tokenize.template_limits import apply_template

# A TRL reward function, which is called with the columns of a batch.
Reward = Callable[..., list[float]]
# Turns prompt, completion, completion ids and messages (JSON) of one row into reward model ids.
Reader = Callable[[str, str, list[int], str], list[int]]

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def rule_reward(name: str, rule: Rule) -> Reward:
    """Return a TRL reward function that applies a rule. TRL names its metrics after it."""

    def reward(
        *, completions: Sequence[str], answer: Sequence[str], **_columns: Any
    ) -> list[float]:
        return [rule(*pair) for pair in zip(completions, answer, strict=True)]

    reward.__name__ = name
    return reward


class ModelReward:
    """A TRL reward function that runs a reward model, `batch` completions at a time.

    `precision` is the one the reward model was trained in.
    """

    __name__ = "model"

    def __init__(self, model: Any, read: Reader, *, batch: int, precision: str) -> None:
        self._model = model.eval().requires_grad_(requires_grad=False)
        self._read = read
        self._batch = batch
        self._dtype = DTYPES.get(precision)

    def __call__(
        self,
        *,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[list[int]],
        turns: Sequence[str],
        **_columns: Any,
    ) -> list[float]:
        """Return the reward of each completion."""
        rows = zip(prompts, completions, completion_ids, turns, strict=True)
        ids = [self._read(*row) for row in rows]
        scores: list[float] = []
        for start in range(0, len(ids), self._batch):
            scores += self._score(ids[start : start + self._batch])
        return scores

    def _score(self, rows: list[list[int]]) -> list[float]:
        """Run the model on ids padded to (batch, seq); its logits have shape (batch, 1)."""
        device = self._model.device
        pad_id = self._model.config.get_text_config().pad_token_id
        ids = [torch.tensor(row, device=device) for row in rows]
        mask = [torch.ones_like(row) for row in ids]
        with (
            torch.inference_mode(),
            torch.autocast(device.type, self._dtype, enabled=self._dtype is not None),
        ):
            output = self._model(
                input_ids=pad_sequence(ids, batch_first=True, padding_value=pad_id),
                attention_mask=pad_sequence(mask, batch_first=True),
            )
        return [float(score) for score in output.logits[:, 0].float()]


def run_token_reader(tokenizer: Any, max_length: int) -> Reader:
    """Return the reader for a reward model trained in this run, which has the same tokenizer."""

    def read(prompt: str, _completion: str, ids: list[int], _messages: str) -> list[int]:
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return [*prompt_ids, *ids][-max_length:]

    return read


def chat_text_reader(tokenizer: Any, max_length: int) -> Reader:
    """Return the reader for a reward model with its own tokenizer and chat template.

    Without a template the messages are joined by blank lines. Long texts are cut at the start.
    """

    def read(_prompt: str, completion: str, _ids: list[int], messages: str) -> list[int]:
        conversation = [*json.loads(messages), {"role": "assistant", "content": completion}]
        if tokenizer.chat_template:
            text = _apply_template(tokenizer, conversation)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            text = "\n\n".join(str(message.get("content") or "") for message in conversation)
            ids = tokenizer(text)["input_ids"]
        return list(ids[-max_length:])

    return read


def _apply_template(tokenizer: Any, messages: list[dict[str, Any]]) -> str:
    try:
        return apply_template(tokenizer, messages)
    except TEMPLATE_ERRORS:
        return apply_template(tokenizer, fold_system(messages))
