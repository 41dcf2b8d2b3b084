"""Reward functions for online training: rules that return 0 to 1, and reward models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import regex
import torch
from torch.nn.utils.rnn import pad_sequence

from modelforge.config.schema.config import TrainingConfig
from modelforge.data.chat_templates import fold_system
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenize.template import TEMPLATE_ERRORS
from modelforge.modeling.tokenize.template_limits import apply_template

# Returns the reward of a completion, given the expected answer.
Rule = Callable[[str, str], float]
# A TRL reward function, which is called with the columns of a batch.
Reward = Callable[..., list[float]]
# Turns prompt, completion, completion ids and messages (JSON) of one row into reward model ids.
Reader = Callable[[str, str, list[int], str], list[int]]

# Time limit per completion: some patterns take exponential time.
SEARCH_LIMIT_S = 0.25
MAX_SLOW_IN_A_ROW = 10
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n[ \t]*```\Z", re.DOTALL | re.IGNORECASE)


def make_rule(config: TrainingConfig) -> Rule:
    """Return the configured rule.

    Raises:
        WorkerError: The pattern is missing or is not a regular expression.
    """
    trainer = config.trainer
    if trainer.reward == "regex":
        return PatternRule(trainer.reward_pattern)
    if trainer.reward == "length":
        return lambda completion, _expected: length_score(completion, trainer.reward_words)
    return json_score if trainer.reward == "json" else exact_match


def exact_match(completion: str, expected: str) -> float:
    """Return 1 when both are equal up to white space and letter case."""
    return float(_normalized(completion) == _normalized(expected))


def length_score(completion: str, words: int) -> float:
    """Return 1 at exactly `words` words, else the smaller count divided by the larger.

    Half or twice the length gives 0.5 and an empty completion 0, so the reward has a slope
    everywhere.
    """
    count = len(completion.split())
    return min(count, words) / max(count, words)


def json_score(completion: str, _expected: str = "") -> float:
    """Return 1 for one JSON object or array, bare or in one code fence around everything.

    A single number or string is valid JSON too, but does not count.
    """
    text = completion.strip()
    fenced = _FENCED.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return 0.0
    return float(isinstance(value, dict | list))


class PatternRule:
    """Returns 1 where a pattern matches anywhere in the completion, with a time limit.

    A completion that takes longer gets 0; `timeouts` counts them.

    Raises:
        WorkerError: The pattern is invalid, or too many completions in a row take too long.
    """

    def __init__(self, pattern: str | None) -> None:
        if not pattern:
            what = "The reward is regex, but no pattern is given."
            raise _pattern_error(what, r"Give a pattern such as \d+, or choose another reward.")
        try:
            self._pattern: Any = regex.compile(pattern)
        except regex.error as error:
            what = f"{pattern} is not a regular expression: {error}."
            raise _pattern_error(what, "Correct the pattern.") from error
        self.timeouts = self._in_a_row = 0

    def __call__(self, completion: str, _expected: str = "") -> float:
        """Return the reward of the completion."""
        try:
            match = self._pattern.search(completion, timeout=SEARCH_LIMIT_S)
        except TimeoutError as error:
            self.timeouts += 1
            self._in_a_row += 1
            if self._in_a_row >= MAX_SLOW_IN_A_ROW:
                what = (
                    f"Searching {MAX_SLOW_IN_A_ROW} completions in a row took longer than "
                    f"{SEARCH_LIMIT_S:g} seconds each."
                )
                remedy = "Simplify the pattern; nested repeats such as (a+)+ are slow."
                raise _pattern_error(what, remedy) from error
            return 0.0
        self._in_a_row = 0
        return float(match is not None)


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


def _normalized(text: str) -> str:
    return " ".join(text.split()).casefold()


def _refuse_constant(name: str) -> NoReturn:
    # Python's parser accepts NaN and Infinity, which are not JSON.
    raise ValueError(name)


def _pattern_error(what: str, remedy: str) -> WorkerError:
    return WorkerError("reward-pattern", Problem("trainer.reward_pattern", what, remedy))
