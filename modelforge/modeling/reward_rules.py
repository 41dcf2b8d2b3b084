"""Rules that reward a completion with 0 to 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import regex

from modelforge.config.schema.config import TrainingConfig
from modelforge.data.json_answers import parse_json_answer
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

# Returns the reward of a completion, given the expected answer.
Rule = Callable[[str, str], float]

# Time limit per completion: some patterns take exponential time.
SEARCH_LIMIT_S = 0.25
MAX_SLOW_IN_A_ROW = 10


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
    return float(isinstance(parse_json_answer(completion), dict | list))


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


def _normalized(text: str) -> str:
    return " ".join(text.split()).casefold()


def _pattern_error(what: str, remedy: str) -> WorkerError:
    return WorkerError("reward-pattern", Problem("trainer.reward_pattern", what, remedy))
