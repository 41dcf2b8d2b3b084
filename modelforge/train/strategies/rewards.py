"""Rewards by rule: what an answer is worth, from 0 to 1, without a model that judges."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import regex
import torch

from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenize.render import fold_system
from modelforge.modeling.tokenize.template import TEMPLATE_ERRORS

# What an answer is worth, given what was expected.
Rule = Callable[[str, str], float]

# So long one answer is searched. A pattern that tries every way to part a text would take years.
SEARCH_S = 0.25
SLOW_IN_A_ROW = 10
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n[ \t]*```\Z", re.DOTALL | re.IGNORECASE)


def make_rule(config: TrainingConfig) -> Rule:
    """Return the rule that the settings name; raises WorkError for a pattern of no use."""
    trainer = config.trainer
    if trainer.reward == "regex":
        return Pattern(trainer.reward_pattern)
    if trainer.reward == "length":
        return lambda answer, _expected: length_score(answer, trainer.reward_words)
    return json_score if trainer.reward == "json" else equals


def equals(answer: str, expected: str) -> float:
    """Return 1 when both say the same; white space and letter case do not count, the rest does."""
    return float(_plain(answer) == _plain(expected))


def length_score(answer: str, words: int) -> float:
    """Return 1 at so many words, less the further away: the smaller count by the larger.

    So it never becomes flat: an answer of twice or half the length is worth 0.5, an empty one 0.
    """
    found = len(answer.split())
    return min(found, words) / max(found, words)


def json_score(answer: str, _expected: str = "") -> float:
    """Return 1 for one whole JSON object or list, bare or in one code fence around everything.

    A lone number or word is valid JSON too, but no answer that anybody asks JSON for.
    """
    text = answer.strip()
    fenced = _FENCED.match(text)
    try:
        found = json.loads(fenced[1] if fenced else text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return 0.0
    return float(isinstance(found, dict | list))


class Pattern:
    """1 where a pattern is found anywhere in the answer. Each search has a time limit.

    An answer that takes longer is worth 0; `slow` counts them. Raises WorkError when one after
    the other does.
    """

    def __init__(self, pattern: str | None) -> None:
        if not pattern:
            raise WorkerError("reward-pattern", _no_pattern())
        try:
            self._search: Any = regex.compile(pattern)
        except regex.error as error:
            raise WorkerError("reward-pattern", _bad_pattern(pattern, error)) from error
        self.slow = self._in_a_row = 0

    def __call__(self, answer: str, _expected: str = "") -> float:
        """Return what the answer is worth."""
        try:
            found = self._search.search(answer, timeout=SEARCH_S)
        except TimeoutError as error:
            self.slow += 1
            self._in_a_row += 1
            if self._in_a_row >= SLOW_IN_A_ROW:
                raise WorkerError("reward-pattern", _slow_pattern()) from error
            return 0.0
        self._in_a_row = 0
        return float(found is not None)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _no_constant(name: str) -> NoReturn:
    # Python reads NaN and Infinity, which JSON does not know.
    raise ValueError(name)


def _no_pattern() -> Problem:
    return Problem(
        "trainer.reward_pattern",
        "The reward is regex, but there is no pattern to look for.",
        r"Give a pattern such as \d+, or choose another reward.",
    )


def _bad_pattern(pattern: str, error: Exception) -> Problem:
    what = f"{pattern} is not a regular expression: {error}."
    return Problem("trainer.reward_pattern", what, "Correct the pattern.")


def _slow_pattern() -> Problem:
    return Problem(
        "trainer.reward_pattern",
        f"Searching {SLOW_IN_A_ROW} answers in a row took longer than {SEARCH_S:g} seconds each.",
        "Simplify the pattern; one repeat inside another, as in (a+)+, is what takes so long.",
    )


# Turns question and answer of one row into what the reward model reads.
Reader = Callable[[str, str, list[int], str], list[int]]
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class RuleReward:
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


class ModelReward:
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


def run_token_reader(tokenizer: Any, longest: int) -> Reader:
    """Return the reader for a model that was trained on this run's own tokens."""

    def read(prompt: str, _said: str, ids: list[int], _turns: str) -> list[int]:
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return [*asked, *ids][-longest:]

    return read


def chat_text_reader(tokenizer: Any, longest: int) -> Reader:
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
    except TEMPLATE_ERRORS:
        return str(tokenizer.apply_chat_template(fold_system(messages), tokenize=False))
