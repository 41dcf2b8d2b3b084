"""Who says what an answer is worth: a rule, or a reward model, as TRL's trainers ask them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch

from modelforge.modeling.tokenize.render import fold_system
from modelforge.modeling.tokenize.template import REFUSALS
from modelforge.train.strategies.rewards import Rule

# Turns question and answer of one row into what the reward model reads.
Reader = Callable[[str, str, list[int], str], list[int]]
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class ByRule:
    """Judges by a rule. TRL names its numbers after `__name__`."""

    def __init__(self, name: str, rule: Rule) -> None:
        self.__name__ = name
        self.rule = rule

    def __call__(
        self, *, completions: Sequence[str], answer: Sequence[str], **_columns: Any
    ) -> list[float]:
        """Return what each answer is worth."""
        both = zip(completions, answer, strict=True)
        return [self.rule(said, expected) for said, expected in both]


class ByModel:
    """Judges by a reward model, `batch` answers at once, in the precision it was trained in."""

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
        """Return what each answer is worth."""
        rows = zip(prompts, completions, completion_ids, turns, strict=True)
        read = [self._read(*row) for row in rows]
        scores: list[float] = []
        for at in range(0, len(read), self._batch):
            scores += self._score(read[at : at + self._batch])
        return scores

    def _score(self, rows: list[list[int]]) -> list[float]:
        longest = max(len(row) for row in rows)
        pad = self._model.config.get_text_config().pad_token_id
        filled = [row + [pad] * (longest - len(row)) for row in rows]
        masks = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        device = self._model.device
        with (
            torch.inference_mode(),
            torch.autocast(device.type, self._dtype, enabled=self._dtype is not None),
        ):
            said = self._model(
                input_ids=torch.tensor(filled, device=device),
                attention_mask=torch.tensor(masks, device=device),
            )
        return [float(score) for score in said.logits[:, 0].float()]


def same_tokens(tokenizer: Any, longest: int) -> Reader:
    """Return the reader for a model that was trained on this run's own tokens."""

    def read(prompt: str, _said: str, ids: list[int], _turns: str) -> list[int]:
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return [*asked, *ids][-longest:]

    return read


def own_words(tokenizer: Any, longest: int) -> Reader:
    """Return the reader for a model with a tokenizer and a chat template of its own.

    Without a template it reads the turns one under the other. What is too long loses its start.
    """

    def read(_prompt: str, said: str, _ids: list[int], turns: str) -> list[int]:
        messages = [*json.loads(turns), {"role": "assistant", "content": said}]
        if tokenizer.chat_template:
            text = _templated(tokenizer, messages)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            text = "\n\n".join(str(turn.get("content") or "") for turn in messages)
            ids = tokenizer(text)["input_ids"]
        return list(ids[-longest:])

    return read


def _templated(tokenizer: Any, messages: list[dict[str, Any]]) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except REFUSALS:
        return str(tokenizer.apply_chat_template(fold_system(messages), tokenize=False))
