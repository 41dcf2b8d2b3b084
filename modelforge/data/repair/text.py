"""Broken lines of JSON mended where the meaning is clear, and texts cleaned."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Callable
from typing import Any

import orjson

from modelforge.data.checks.text import EMAIL, HTML, PHONE, SECRET
from modelforge.data.formats.json_scanner import cause_of

_MOST_MENDS = 50
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_NO_NUMBER = re.compile(r"-?(?:NaN|Infinity|Inf|nan|inf)\b")
_WORDS = {"None": "null", "True": "true", "False": "false"}
_BREAKING = re.compile(r"</?(?:p|div|br|li|tr|h[1-6]|ul|ol|table|blockquote|pre)\b[^<>]*>", re.I)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,400}>")


def parse_broken_line(raw: bytes | None) -> dict[str, Any] | None:
    """Return the row that a broken line was meant to be, or nothing where that is not clear."""
    if raw is None:
        return None
    found = _mended(_decoded(raw).strip())
    if isinstance(found, str) and found.strip():
        return {"text": found}
    if isinstance(found, list) and len(found) == 2 and all(isinstance(x, str) for x in found):
        return {"input": found[0], "output": found[1]}
    return found if isinstance(found, dict) else None


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("cp1252") if b"\xed" not in raw else raw.decode(errors="replace")
    except UnicodeDecodeError:
        return raw.decode(errors="replace")


def _mended(text: str) -> Any:
    for _ in range(_MOST_MENDS):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            cause, at = cause_of(text, error)[0], error.pos
        if cause == "single-quotes":
            return _python(text)
        if cause in ("raw-control", "lone-surrogate"):
            return _lenient(text)
        better = _step(text, at, cause)
        if better is None or better == text:
            return None
        text = better
    return None


def _step(text: str, at: int, cause: str) -> str | None:
    if cause == "trailing-comma":
        comma = at if text[at] == "," else text.rfind(",", 0, at)
        return text[:comma] + text[comma + 1 :]
    if cause == "not-a-number":
        found = _NO_NUMBER.search(text, max(0, at - 1))
        return text[: found.start()] + "null" + text[found.end() :] if found else None
    if cause == "python-words":
        word = next(word for word in _WORDS if text.startswith(word, at))
        return text[:at] + _WORDS[word] + text[at + len(word) :]
    if cause == "number-keys":
        key = re.compile(r"-?\d[\d.]*").search(text, max(0, at - 1))
        return f'{text[: key.start()]}"{key.group()}"{text[key.end() :]}' if key else None
    return None


def _python(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _lenient(text: str) -> Any:
    try:
        return _whole(json.loads(text, strict=False))
    except (ValueError, RecursionError):
        return None


def _whole(value: Any) -> Any:
    """Return a value whose texts hold no half characters."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(each) for name, each in value.items()}
    return value


def _without_html(text: str) -> str:
    if not HTML.search(text):
        return text
    return html.unescape(_TAG.sub("", _BREAKING.sub("\n", text))).strip()


CLEANERS: dict[str, Callable[[str], str]] = {
    "control-characters": lambda text: _CONTROL.sub("", text),
    "html": _without_html,
    "e-mail": lambda text: EMAIL.sub("[e-mail]", text),
    "phone-number": lambda text: PHONE.sub("[phone]", text),
    "secret-key": lambda text: SECRET.sub("[key]", text),
}


def cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """Return a value with every text in it cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(each, clean) for each in value]
    if isinstance(value, dict):
        return {name: cleaned(each, clean) for name, each in value.items()}
    return value
