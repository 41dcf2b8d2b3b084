"""Recognize conversations in cells: lists, JSON text, and Python text as pandas writes it."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from typing import Any

import orjson

CALL = "function_call"
# The role of every known spelling; a message with the role CALL is a tool call of the assistant.
ROLE_ALIASES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "tool_response": "tool",
    CALL: CALL,
    "tool_call": CALL,
}
ROLE_KEYS = ("role", "from", "speaker", "sender", "author")
CONTENT_KEYS = ("content", "value", "text", "message", "parts")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
# An assistant message with the value 0 or false is read but not trained: OpenAI, ms-swift, Axolotl
# and LLaMA-Factory, in this order.
WEIGHT_KEYS = ("weight", "loss", "train", "training", "loss_weight")
_TEXT_TYPES = ("text", "input_text", "output_text")
_MAX_PYTHON_CHARS = 500_000
_OPENINGS = ("[", "{", "array(")
_NOT_PLAIN = (*_OPENINGS, " ", "\n", "\r", "\t")
_PYTHON_START = re.compile(r"(?:array\()?[\[{(\s]*['\"]")
_MESSAGE_START = re.compile(
    r"(?:array\()?\[?\s*\{\s*(?:'|\")(?:role|from|content|value)(?:'|\")\s*:"
)
# A text in quotes, or what NumPy writes around and between the items of an array.
_NUMPY = re.compile(
    r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|(\}\s*(?=\{))|array\(|,\s*dtype=object\s*\)"""
)


def parse_cell(value: Any) -> Any:
    """Return the list or object that a text stands for; other values unchanged.

    The text is JSON, or Python text of a list or object with quoted keys or items.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.startswith(_OPENINGS):
        return value
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    parsed = _parse_python(text) if text[-1] in "]})" else None
    return value if parsed is None else parsed


def is_plain_text(value: Any) -> bool:
    """Return whether a value is a text that does not begin like a list or an object.

    This quick test precedes all others, since most texts are plain.
    """
    return type(value) is str and not value.startswith(_NOT_PLAIN)


def conversation_in(value: Any) -> list[Any] | None:
    """Return the messages in a cell, unconverted; None if it holds anything else.

    A list of objects is one; a text only if it stands for messages with roles.
    """
    if is_plain_text(value):
        return None
    if isinstance(value, str):
        messages = _as_messages(parse_cell(value))
        return messages if all(map(_has_role, messages)) and messages else None
    messages = _as_messages(value)
    return messages if any(isinstance(message, dict) for message in messages) else None


def _as_messages(value: Any) -> list[Any]:
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, dict):
        is_message = any(key in value for key in ROLE_KEYS)
        value = messages_of_columns(value) or ([value] if is_message else [])
    return value if isinstance(value, list) else []


def messages_of_columns(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of lists of roles and contents, as `datasets` stores a sequence.

    The result is empty for any other object.
    """
    columns = list(value.values())
    are_lists = all(isinstance(column, list) for column in columns) and bool(columns)
    if not are_lists or len({len(column) for column in columns}) != 1:
        return []
    messages = [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    return messages if all(map(_has_role, messages)) else []


def looks_like_conversation(text: str) -> bool:
    """Return whether a text begins like messages, whether or not it can be parsed."""
    return _MESSAGE_START.match(text.lstrip()) is not None


def part_text(part: Any) -> str | None:
    """Return the text of a part of a content list, in any spelling; None for other parts."""
    if not isinstance(part, dict) or part.get("type", "text") not in _TEXT_TYPES:
        return None
    texts = (part.get(key) for key in ("text", "value", "content"))
    return next((text for text in texts if isinstance(text, str)), None)


def _has_role(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and any(str(item.get(key)).strip().lower() in ROLE_ALIASES for key in ROLE_KEYS)
        and any(key in item for key in (*CONTENT_KEYS, "tool_calls"))
    )


def _parse_python(text: str) -> Any:
    """Return the list or object of Python text, also of a NumPy array; None for others."""
    if len(text) > _MAX_PYTHON_CHARS or not _PYTHON_START.match(text):
        return None
    value = _literal(text)
    if value is None and _MESSAGE_START.match(text):
        value = _literal(_NUMPY.sub(lambda match: match[1] or ("}, " if match[2] else ""), text))
    return value if isinstance(value, list | dict) else None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
