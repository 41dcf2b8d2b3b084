"""Translate OpenAI's graders to the rewards of reinforcement learning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelforge.serving.requests import ApiError

PARAM = "method.reinforcement.grader"
SAMPLE = re.compile(r"\s*\{\{\s*sample\.output_text\s*\}\}\s*")
ITEM = re.compile(r"\s*\{\{\s*item\.([^{}]+?)\s*\}\}\s*")
TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
# Operation on a fixed text → the pattern that a completion must contain.
PATTERNS = {
    "eq": r"(?s)\A\s*{text}\s*\Z",
    "ne": r"(?s)\A(?!\s*{text}\s*\Z)",
    "like": r"{text}",
    "ilike": r"(?i){text}",
}
POSSIBLE = (
    "Possible are string_check with the operation eq on {{item.FIELD}}, and with eq, ne, like and "
    "ilike on a fixed text. The other rewards of ModelForge are chosen in `settings`: "
    "trainer.reward is json, length, regex or model."
)
REASONS = {
    "python": "It would run foreign code on this computer.",
    "score_model": "It asks another model for scores; name a reward model in `settings`.",
    "label_model": "It asks another model for labels; name a reward model in `settings`.",
    "text_similarity": "ModelForge has no reward of similar texts.",
    "multi": "A run has one reward.",
}


@dataclass(frozen=True)
class Reward:
    """The settings of a reward, and the field of a row with the answer that it expects."""

    settings: dict[str, Any]
    answer: str | None = None


def read_grader(grader: object) -> Reward:
    """Return the reward of a grader; raises ApiError for one that no reward can replace."""
    if not isinstance(grader, Mapping):
        raise ApiError(f"{PARAM} is not an object. {POSSIBLE}", param=PARAM, code="invalid_value")
    kind = str(grader.get("type"))
    if kind != "string_check":
        reason = REASONS.get(kind, "Its type is unknown.")
        raise _unsupported(f"A grader of the type {kind[:40]} cannot be used here. {reason}")
    operation, reference = str(grader.get("operation")), str(grader.get("reference", ""))
    if not SAMPLE.fullmatch(str(grader.get("input", ""))):
        raise _unsupported("The input of the grader has to be {{sample.output_text}}.")
    if operation not in PATTERNS:
        raise _unsupported(f"The operation {operation[:40]} is unknown.")
    if field := ITEM.fullmatch(reference):
        if operation != "eq":
            raise _unsupported(f"The operation {operation} on a field of the rows is not possible.")
        return Reward({"trainer.reward": "exact-match"}, field[1])
    if TEMPLATE.search(reference):
        raise _unsupported("The reference mixes text and fields of the rows.")
    if not reference.strip():
        raise _unsupported("The reference is empty.")
    pattern = PATTERNS[operation].replace("{text}", re.escape(reference.strip()))
    return Reward({"trainer.reward": "regex", "trainer.reward_pattern": pattern})


def _unsupported(what: str) -> ApiError:
    return ApiError(f"{what} {POSSIBLE}", param=PARAM, code="unsupported_value")
