"""What to say of JSON that is broken: the place, the cause and the remedy."""

from __future__ import annotations

import re

import orjson

from modelforge.data.formats.sniff import LONGEST_ROW, Source, UnreadableError, trouble

_COMMA_TOO_MANY = re.compile(r",\s*[}\]]")
_NUMBER_KEY = re.compile(r"[{,]\s*-?\d[\d.]*\s*:")


def too_long(source: Source, line: int) -> UnreadableError:
    """Return the error for a row beyond the longest allowed."""
    bound = LONGEST_ROW // 2**20
    what = f"begins a row of more than {bound} MiB; the longest allowed is {bound} MiB."
    remedy = "Write one row a line, and split long documents."
    return trouble(source.name, what, remedy, code="row-too-long", line=line)


def no_object(source: Source, mark: bytes, line: int, column: int) -> UnreadableError:
    """Return the error for a row that is no object; `mark` is its first byte."""
    kind, code = {
        b"[": ("a list", "row-is-list"),
        b'"': ("a text", "row-is-text"),
        b"": ("nothing", "row-missing"),
        b"n": ("null", "row-is-null"),
        b"t": ("true", "row-is-boolean"),
        b"f": ("false", "row-is-boolean"),
    }.get(mark, ("", ""))
    if not kind:
        number = mark in b"-0123456789"
        kind, code = ("a number", "row-is-number") if number else (shown(mark), "bad-json")
    what = f"holds {kind} where a row is due; a row is an object with named fields."
    remedy = 'Write each row as {"input": "…", "output": "…"}.'
    return trouble(source.name, what, remedy, code=code, line=line, column=column)


def not_json(
    source: Source, text: bytes, error: orjson.JSONDecodeError, line: int, column: int = 1
) -> UnreadableError:
    """Return the error that names the place inside `text`, which begins at `line` and `column`."""
    try:
        shown = text.decode()
    except UnicodeDecodeError as bad:
        return _not_utf8(source, text, bad.start, line, column)
    place = error.colno if error.lineno > 1 else column + error.colno - 1
    what = f"is not JSON: {error.msg}."
    code, remedy = cause_of(shown, error)
    return trouble(source.name, what, remedy, code=code, line=line + error.lineno - 1, column=place)


def _not_utf8(source: Source, text: bytes, at: int, line: int, column: int) -> UnreadableError:
    lines = text.count(b"\n", 0, at)
    before = text[:at].rpartition(b"\n")[2]
    place = len(before.decode(errors="replace")) + (1 if lines else column)
    surrogate = text[at] == 0xED and text[at + 1 : at + 2] >= b"\xa0"
    what = f"holds the byte 0x{text[at]:02X}, which is not UTF-8."
    remedy, code = "Save the file as UTF-8.", "not-utf-8"
    if surrogate:
        what, code = "holds half of a character (a lone surrogate).", "lone-surrogate"
        remedy = "Export the text again, or take the character out."
    return trouble(source.name, what, remedy, code=code, line=line + lines, column=place)


def cause_of(text: str, error: orjson.JSONDecodeError) -> tuple[str, str]:
    """Return the cause by name, and the remedy."""
    at = error.pos
    near = text[max(0, at - 1) : at + 1]
    word = text[at : at + 8]
    if "surrogate" in error.msg:
        return "lone-surrogate", "JSON holds half of a character here; take it out."
    if "recursion" in error.msg.lower():
        return "deep-nesting", "Write the text itself, without objects inside objects."
    if at >= len(text.rstrip()):
        return "cut-off", "The row was cut off; close its quotes and brackets."
    if "'" in near:
        return "single-quotes", "Use double quotes around names and texts."
    if word.startswith(("NaN", "Inf", "-Inf")) or near.startswith("-I"):
        return "not-a-number", "Write null instead of NaN or Infinity."
    if word.startswith(("None", "True", "False")):
        return "python-words", "Write null, true and false as JSON spells them."
    if _COMMA_TOO_MANY.match(text, at) or _COMMA_TOO_MANY.match(text, max(0, at - 1)):
        return "trailing-comma", "Remove the comma before the closing bracket."
    if _NUMBER_KEY.match(text, max(0, at - 1)) or _NUMBER_KEY.match(text, max(0, at - 2)):
        return "number-keys", 'Put names in double quotes, as in {"1": "…"}.'
    if ord(text[at]) < 32:
        return "raw-control", "Write line breaks and tabs inside a text as \\n and \\t."
    return "bad-json", "Write one complete JSON object a row."


def shown(mark: bytes) -> str:
    """Return a byte as messages quote it."""
    return f"“{mark.decode(errors='replace')}”" if mark else "the end of the file"
