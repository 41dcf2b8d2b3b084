"""What to say of JSON that is broken: the place, the cause and the remedy."""

from __future__ import annotations

import re

import orjson

from modelforge.data.source import LONGEST_ROW, Source, trouble
from modelforge.errors import DataError

_COMMA_TOO_MANY = re.compile(r",\s*[}\]]")


def too_long(source: Source, line: int) -> DataError:
    """Return the error for a row beyond the longest allowed."""
    bound = LONGEST_ROW // 2**20
    what = f"begins a row of more than {bound} MiB; the longest allowed is {bound} MiB."
    return trouble(source.name, what, "Write one row a line, and split long documents.", line=line)


def no_object(source: Source, mark: bytes, line: int, column: int) -> DataError:
    """Return the error for a row that is no object; `mark` is its first byte."""
    kind = {b"[": "a list", b'"': "a text", b"": "nothing", b"n": "null", b"t": "true"}.get(mark)
    if kind is None:
        kind = "a number" if mark and mark in b"-0123456789" else shown(mark)
    what = f"holds {kind} where a row is due; a row is an object with named fields."
    remedy = 'Write each row as {"input": "…", "output": "…"}.'
    return trouble(source.name, what, remedy, line=line, column=column)


def not_json(
    source: Source, text: bytes, error: orjson.JSONDecodeError, line: int, column: int = 1
) -> DataError:
    """Return the error that names the place inside `text`, which begins at `line` and `column`."""
    try:
        shown = text.decode()
    except UnicodeDecodeError as bad:
        lines = text.count(b"\n", 0, bad.start)
        before = text[: bad.start].rpartition(b"\n")[2].decode(errors="replace")
        place = len(before) + (1 if lines else column)
        what = f"holds the byte 0x{text[bad.start]:02X}, which is not UTF-8."
        return trouble(
            source.name, what, "Save the file as UTF-8.", line=line + lines, column=place
        )
    place = error.colno if error.lineno > 1 else column + error.colno - 1
    what = f"is not JSON: {error.msg}."
    remedy = _json_remedy(shown, error.pos)
    return trouble(source.name, what, remedy, line=line + error.lineno - 1, column=place)


def _json_remedy(text: str, at: int) -> str:
    near = text[max(0, at - 1) : at + 1]
    word = text[at : at + 8]
    if at >= len(text.rstrip()):
        return "The row was cut off; close its quotes and brackets."
    if "'" in near:
        return "Use double quotes around names and texts."
    if word.startswith(("NaN", "Inf", "-Inf")) or near.startswith("-I"):
        return "Write null instead of NaN or Infinity."
    if word.startswith(("None", "True", "False")):
        return "Write null, true and false as JSON spells them."
    if _COMMA_TOO_MANY.match(text, at):
        return "Remove the comma before the closing bracket."
    if ord(text[at]) < 32:
        return "Write line breaks and tabs inside a text as \\n and \\t."
    return "Write one complete JSON object a row."


def shown(mark: bytes) -> str:
    """Return a byte as messages quote it."""
    return f"“{mark.decode(errors='replace')}”" if mark else "the end of the file"
