"""Which column or turn makes a row unusable, and by what name the fault goes."""

from __future__ import annotations

import json
from typing import Any

from modelforge.data.canonical.convert import UnusableRowError
from modelforge.data.canonical.messages import ROLE_ALIASES
from modelforge.data.columns.mapping import ColumnMapping

Blame = tuple[str, int, str | None]
_EMPTY = ("empty-answer", "empty-question", "empty-text")
# The part of a row whose column a fault is about.
_PARTS = {
    "same-answers": "rejected",
    "missing-rejected": "rejected",
    "empty-rejected": "rejected",
    "missing-chosen": "chosen",
    "empty-chosen": "chosen",
    "no-prompt": "prompt",
    "bad-label": "label",
    "bad-answers": "answers",
    "answer-not-in-context": "answers",
    "bad-messages": "messages",
    "no-answer-turn": "messages",
    "bad-tools": "tools",
}
_ROLE = ("role", "from")
_SAID = ("content", "value")


def has_any_column(data: dict[str, Any], wanted: list[str]) -> bool:
    """Whether a row has at least one of the columns that are read."""
    return any(column in data for column in wanted)


def locate_error(
    data: dict[str, Any], mapping: ColumnMapping, error: UnusableRowError, line: int
) -> Blame:
    """Return the code, the line and the column or turn of what makes the row unusable."""
    column: str | None = getattr(error, "column", None) or None
    turns = next((turns for turns in _talks(data, mapping)), None)
    if turns is not None:
        named, number = _bad_turn(turns, mapping)
        if named:
            return named, line, f"message {number + 1}"
        return error.code, line, column
    for name in mapping.fields.values():
        value = data.get(name)
        if error.code == "missing-field" and name not in data:
            return error.code, line, name
        if error.code == "not-text" and isinstance(value, dict | list):
            return ("nested-column" if isinstance(value, dict) else error.code), line, name
        if error.code in _EMPTY and (value is None or not str(value).strip()):
            return error.code, line, column or name
    part = _PARTS.get(error.code, "")
    return error.code, line, column or mapping.fields.get(part)


def _talks(data: dict[str, Any], mapping: ColumnMapping) -> list[list[Any]]:
    if mapping.kind not in ("messages", "preference"):
        return []
    values = (data.get(name) for name in mapping.fields.values())
    return [value for value in values if isinstance(value, list) and value]


def _bad_turn(turns: list[Any], mapping: ColumnMapping) -> tuple[str, int]:
    saying = tuple(mapping.properties.get(name, name) for name in _SAID) + _SAID
    for number, turn in enumerate(turns):
        if not isinstance(turn, dict):
            return "bad-messages", number
        if _role_of(turn, mapping) is None:
            return "unknown-role", number
        key = next((name for name in saying if name in turn), None)
        if key is None and not turn.get("tool_calls"):
            return "missing-content", number
        said = turn[key] if key else ""
        if said is None and not turn.get("tool_calls"):
            return "null-content", number
        if isinstance(said, list) and any(map(_is_no_text, said)):
            return "image-content", number
        silent = isinstance(said, str) and not said.strip() and not turn.get("tool_calls")
        if silent and _role_of(turn, mapping) == "assistant":
            return "empty-answer", number
    return "", 0


def _role_of(turn: dict[str, Any], mapping: ColumnMapping) -> str | None:
    """Return the role as it is spelled here; None for one that is not known."""
    names = (mapping.properties.get("role", "role"), *_ROLE)
    said = next((turn[name] for name in names if name in turn), "")
    return (
        ROLE_ALIASES.get(said.strip().lower(), "" if not said else None)
        if type(said) is str
        else ""
    )


def _is_no_text(part: Any) -> bool:
    return isinstance(part, dict) and not isinstance(part.get("text"), str)


def duplicate_key(raw: bytes, data: dict[str, Any]) -> str | None:
    """Return a name that stands twice in one object of a line of JSON; the last one counts."""
    if raw.count(b'":') == _keys(data, 0):
        return None
    doubled: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in found]
        if len(set(names)) < len(names):
            doubled.append(next(name for name in names if names.count(name) > 1))

    try:
        json.loads(raw, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return None
    return doubled[0] if doubled else None


def _keys(value: Any, depth: int) -> int:
    """Return how many names stand in a value, and how many times its texts look like one."""
    if type(value) is dict and depth < 9:
        return len(value) + sum(_keys(each, depth + 1) for each in value.values())
    if type(value) is list and depth < 9:
        return sum(_keys(each, depth + 1) for each in value)
    return value.count('":') if type(value) is str else 0


def exceeds_depth(value: Any, bound: int) -> bool:
    """Whether lists and objects lie inside each other more than `bound` deep."""
    level = [value]
    for _ in range(bound):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True
