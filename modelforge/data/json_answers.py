"""The JSON value of an answer, which may stand in a code block."""

from __future__ import annotations

import json
import re

# A code block around the whole answer.
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


def parse_json_answer(answer: str) -> object:
    """Return the value of an answer that is JSON, also in a code block; None for other text."""
    text = without_fence(answer)
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def without_fence(answer: str) -> str:
    """Return the content of a code block that is the whole answer, otherwise the answer."""
    text = answer.strip()
    fenced = _FENCE.fullmatch(text)
    return fenced[1].strip() if fenced else text


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
