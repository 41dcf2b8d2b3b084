"""Repair broken lines of JSON where their meaning is clear, and clean texts."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Callable
from typing import Any

import orjson

from modelforge.data.canonical.cells import parse_cell
from modelforge.data.checks.secrets import SECRET
from modelforge.data.checks.text import CONTROL, EMAIL, END_TOKENS, HTML, PHONE
from modelforge.data.formats.json_scanner import find_json_cause

_MAX_REPAIRS = 50
_NOT_A_NUMBER = re.compile(r"-?(?:NaN|Infinity|Inf|nan|inf)\b")
_NUMERIC_KEY = re.compile(r"-?\d[\d.]*")
_LINE_BREAKS = "\x0b\x0c\x1c\x1d\x1e\x85"
_LITERALS = {"None": "null", "True": "true", "False": "false"}
_BLOCK_TAG = re.compile(r"</?(?:p|div|br|li|tr|h[1-6]|ul|ol|table|blockquote|pre)\b[^<>]*>", re.I)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,400}>")


def parse_broken_line(raw: bytes | None) -> dict[str, Any] | None:
    """Return the row that a broken line stands for; None if that is not clear."""
    if raw is None:
        return None
    # A byte order mark is left where files were joined.
    value = _parse_repaired(_decode(raw).strip().strip("\ufeff").strip())
    if isinstance(value, str) and value.strip():
        inner = parse_cell(value)  # a row that was written as JSON twice
        return inner if isinstance(inner, dict) else {"text": value}
    is_pair = isinstance(value, list) and len(value) == 2
    if is_pair and all(isinstance(text, str) for text in value):
        return {"input": value[0], "output": value[1]}
    return value if isinstance(value, dict) else None


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        has_surrogate = b"\xed" in raw
    try:
        return raw.decode(errors="replace") if has_surrogate else raw.decode("cp1252")
    except UnicodeDecodeError:
        return raw.decode(errors="replace")


def _parse_repaired(text: str) -> Any:
    for _ in range(_MAX_REPAIRS):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            code, at = find_json_cause(text, error)[0], error.pos
        if code == "single-quotes":
            return _parse_python(text)
        if code in ("raw-control-character", "lone-surrogate"):
            return _parse_leniently(text)
        repaired = _repair_at(text, at, code)
        if repaired is None or repaired == text:
            return None
        text = repaired
    return None


def _repair_at(text: str, at: int, code: str) -> str | None:
    """Return the text with one error repaired; None if the code cannot be repaired."""
    if code == "mark-after-row":
        return text[:at]
    if code == "trailing-comma":
        comma = at if text[at] == "," else text.rfind(",", 0, at)
        return text[:comma] + text[comma + 1 :]
    if code == "not-a-number":
        number = _NOT_A_NUMBER.search(text, max(0, at - 1))
        return f"{text[: number.start()]}null{text[number.end() :]}" if number else None
    if code == "python-literals":
        literal = next(literal for literal in _LITERALS if text.startswith(literal, at))
        return text[:at] + _LITERALS[literal] + text[at + len(literal) :]
    if code == "numeric-keys":
        key = _NUMERIC_KEY.search(text, max(0, at - 1))
        return f'{text[: key.start()]}"{key.group()}"{text[key.end() :]}' if key else None
    return None


def _parse_python(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _parse_leniently(text: str) -> Any:
    try:
        return _replace_surrogates(json.loads(text, strict=False))
    except (ValueError, RecursionError):
        return None


def _replace_surrogates(value: Any) -> Any:
    """Return a value with lone surrogates in its texts replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {
            _replace_surrogates(name): _replace_surrogates(item) for name, item in value.items()
        }
    return value


def _remove_html(text: str) -> str:
    if not HTML.search(text):
        return text
    return html.unescape(_TAG.sub("", _BLOCK_TAG.sub("\n", text))).strip()


def _blank_for_control(match: re.Match[str]) -> str:
    """Return a line break for a control character that breaks lines or pages, a blank for others.

    Words on both sides of it stay apart.
    """
    if match[0] in _LINE_BREAKS:
        return "\n"
    text, start, end = match.string, match.start(), match.end()
    return "" if text[start - 1 : start].isspace() or text[end : end + 1].isspace() else " "


def _single_item(text: str) -> str:
    items = parse_cell(text)
    is_single = isinstance(items, list) and len(items) == 1 and isinstance(items[0], str)
    return items[0] if is_single else text


TEXT_REPAIRS: dict[str, Callable[[str], str]] = {
    "control-characters": lambda text: CONTROL.sub(_blank_for_control, text),
    "end-token-in-answer": lambda text: END_TOKENS.sub("", text),
    "list-as-text": _single_item,
    "html": _remove_html,
    "e-mail": lambda text: EMAIL.sub("[e-mail]", text),
    "phone-number": lambda text: PHONE.sub("[phone]", text),
    "secret-key": lambda text: SECRET.sub("[key]", text),
}


def repair_texts(value: Any, repair: Callable[[str], str]) -> Any:
    """Return a value with `repair` applied to every text in it."""
    if isinstance(value, str):
        return repair(value)
    if isinstance(value, list):
        return [repair_texts(item, repair) for item in value]
    if isinstance(value, dict):
        return {name: repair_texts(item, repair) for name, item in value.items()}
    return value
