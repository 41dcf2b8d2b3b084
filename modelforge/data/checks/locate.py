"""Locate the column or message that makes a row unusable."""

from __future__ import annotations

import json
from typing import Any

import orjson

from modelforge.data.canonical.cells import ROLE_ALIASES, parse_cell, part_text
from modelforge.data.canonical.messages import UnusableRowError, weight_of
from modelforge.data.canonical.segments import is_segment
from modelforge.data.columns.mapping import ColumnMapping

_EMPTY = ("empty-answer", "empty-question", "empty-text")
# The part of a row that a code is about.
_PARTS = {
    "identical-answers": "rejected",
    "missing-rejected": "rejected",
    "empty-rejected": "rejected",
    "missing-chosen": "chosen",
    "empty-chosen": "chosen",
    "no-prompt": "prompt",
    "bad-label": "label",
    "bad-answers": "answers",
    "answer-not-in-context": "answers",
    "bad-messages": "messages",
    "no-assistant-message": "messages",
    "bad-tools": "tools",
}
_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("content", "value", "parts")
_MEDIA = ("image", "audio", "video", "file", "sound", "inlineData", "inline_data")


def locate_error(
    data: dict[str, Any], mapping: ColumnMapping, error: UnusableRowError
) -> tuple[str, str | None]:
    """Return the code of an error, more specific if possible, and its column or message."""
    columns = mapping.fields.values()
    if not any(column in data for column in columns):
        return "mixed-schemas", None
    messages = _first_conversation(data, mapping)
    if messages is not None:
        errors = (_message_error(message, mapping) for message in messages)
        found = ((code, f"message {number}") for number, code in enumerate(errors, 1) if code)
        return next(found, (error.code, None))
    if error.code == "bad-segments":
        return error.code, _first_bad_segment(data, mapping)
    for column in columns:
        value = data.get(column)
        if error.code == "missing-field" and column not in data:
            return error.code, column
        if error.code == "not-text" and isinstance(value, dict | list):
            return ("nested-column" if isinstance(value, dict) else "list-column"), column
        if error.code in _EMPTY and (value is None or not str(value).strip()):
            return error.code, column
    return error.code, mapping.fields.get(_PARTS.get(error.code, ""))


def _first_conversation(data: dict[str, Any], mapping: ColumnMapping) -> list[Any] | None:
    if mapping.kind not in ("messages", "preference"):
        return None
    values = (data.get(column) for column in mapping.fields.values())
    lists = (value for value in values if isinstance(value, list))
    is_kind = mapping.kind == "messages"
    return next((each for each in lists if each and (is_kind or isinstance(each[0], dict))), None)


def _first_bad_segment(data: dict[str, Any], mapping: ColumnMapping) -> str:
    column = mapping.fields["segments"]
    value = parse_cell(data.get(column))
    items = enumerate(value if isinstance(value, list) else [], 1)
    return next((f"segment {number}" for number, item in items if not is_segment(item)), column)


def _message_error(message: Any, mapping: ColumnMapping) -> str:
    if not isinstance(message, dict):
        return "bad-messages"
    role = _role_of(message, mapping)
    if role is None:
        return "unknown-role"
    if role == "assistant" and weight_of(message) is None:
        return "bad-weight"
    keys = (*(mapping.properties.get(key, key) for key in _CONTENT_KEYS), *_CONTENT_KEYS)
    key = next((key for key in keys if key in message), None)
    calls = message.get("tool_calls")
    if key is None:
        return "" if calls else "missing-content"
    content = message[key]
    if content is None and not calls:
        return "null-content"
    if isinstance(content, list) and any(map(_is_media, content)):
        return "image-content"
    is_empty = isinstance(content, str) and not content.strip() and not calls
    return "empty-answer" if is_empty and role == "assistant" else ""


def _role_of(message: dict[str, Any], mapping: ColumnMapping) -> str | None:
    """Return the role of a message; "" if it has none, None if it is unknown."""
    keys = (mapping.properties.get("role", "role"), *_ROLE_KEYS)
    value = next((message[key] for key in keys if key in message), "")
    if not isinstance(value, str) or not value:
        return ""
    return ROLE_ALIASES.get(value.strip().lower())


def _is_media(part: Any) -> bool:
    if not isinstance(part, dict) or part_text(part) is not None:
        return False
    names = (str(part.get("type", "")), *part)
    return any(medium in name for name in names for medium in _MEDIA)


def duplicate_key(raw: bytes, data: dict[str, Any]) -> str | None:
    """Return a key that occurs twice in one object of a line of JSON, or None."""
    # Written again, the row has every key once; in texts this mark is the same in both.
    try:
        if raw.count(b'":') == orjson.dumps(data).count(b'":'):
            return None
    except orjson.JSONEncodeError:  # nested too deep
        return None
    duplicates: list[str] = []

    def check_pairs(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            duplicates.append(next(key for key in keys if keys.count(key) > 1))

    try:
        json.loads(raw, object_pairs_hook=check_pairs)
    except (ValueError, RecursionError):
        return None
    return duplicates[0] if duplicates else None


def exceeds_depth(value: Any, limit: int) -> bool:
    """Return whether lists and objects are nested more than `limit` deep."""
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
