"""Where one JSON value ends and the next begins, in a file that is read in pieces."""

from __future__ import annotations

import re
from typing import BinaryIO

import orjson

from modelforge.data.formats.sniff import MAX_ROW_BYTES, DataFile, ReadError, Row, read_error
from modelforge.units import MIB

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}"]', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb"[^,\]}\s]++")
_PIECE = 2**18


def value_end(text: bytes, start: int) -> int:
    """Return where the object or list at `start` ends, or -1 when it does not end in `text`."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        at, end = token.span()
        first = text[at]
        if first == 0x22:
            if end - at == 1:
                return -1
        elif first in b"{[":
            depth += 1
        else:
            depth -= 1
            if depth <= 0:
                return end
    return -1


class Scanner:
    """A place in a JSON text that is read in pieces; it knows its line and column."""

    def __init__(self, source: DataFile, stream: BinaryIO) -> None:
        self.source = source
        self.stream = stream
        self.text = b""
        self.at = 0
        self.line = 1
        self.column = 1
        self.ended = False

    def peek(self) -> bytes:
        """Skip white space and return the next byte; empty at the end of the file."""
        while True:
            found = _SPACE.match(self.text, self.at)
            assert found is not None
            self._go(found.end())
            if self.at < len(self.text):
                return self.text[self.at : self.at + 1]
            if not self._fill():
                return b""

    def take(self, mark: bytes) -> None:
        """Step over `mark`, which must come next."""
        found = self.peek()
        if found != mark:
            what = f"has {shown(found)} where {mark.decode()} is due."
            raise self.trouble(what, "Check the file with a JSON editor.")
        self._go(self.at + 1)

    def opens_rows(self) -> bool:
        """Whether the list that comes next begins with an object; nothing is stepped over."""
        for _ in range(2):
            if (found := re.match(rb"\[\s*+(.)", self.text[self.at :], re.DOTALL)) is not None:
                return found.group(1) == b"{"
            self._fill()
        return False

    def row(self) -> Row:
        """Return the object that comes next."""
        mark = self.peek()
        line, column = self.line, self.column
        fault = None if mark == b"{" else no_object(self.source, mark, line, column)
        if fault is not None and not (mark and mark in b'["-0123456789ntf'):
            raise fault
        piece = self.value()
        if fault is not None:
            fault.raw = piece
            raise fault
        try:
            return Row(line, orjson.loads(piece))
        except orjson.JSONDecodeError as error:
            broken = not_json(self.source, piece, error, line, column)
            broken.raw = piece
            raise broken from error

    def value(self) -> bytes:
        """Return the text of the value that comes next; nothing is checked but its end."""
        first = self.peek()
        while True:
            end = self._end_of_value(first)
            if end != -1 and (end < len(self.text) or self.ended or first in b'{["'):
                if end - self.at > MAX_ROW_BYTES:
                    raise too_long(self.source, self.line)
                piece = self.text[self.at : end]
                self._go(end)
                return piece
            long = len(self.text) - self.at > MAX_ROW_BYTES
            if long or not self._fill():
                raise self._unended(long)

    def trouble(self, what: str, remedy: str, code: str = "bad-json") -> ReadError:
        """Return the error that names this place."""
        return read_error(
            self.source.name, what, remedy, code=code, line=self.line, column=self.column
        )

    def _end_of_value(self, first: bytes) -> int:
        if first in (b"{", b"["):
            return value_end(self.text, self.at)
        pattern = _TOKEN if first == b'"' else _SCALAR
        found = pattern.match(self.text, self.at)
        if found is None or found.group() == b'"':
            return -1
        return found.end()

    def _unended(self, long: bool) -> ReadError:
        # What is wrong usually lies well before the end that was looked for in vain.
        rest = self.text[self.at :]
        if long:
            rest = rest.decode(errors="ignore").encode()
        try:
            orjson.loads(rest)
        except orjson.JSONDecodeError as error:
            if error.pos < len(error.doc) - 1:
                return not_json(self.source, rest, error, self.line, self.column)
        if long:
            return too_long(self.source, self.line)
        remedy = "The file was cut off, or a quote or bracket is not closed."
        return self.trouble("begins a value that never ends.", remedy, "cut-off")

    def _go(self, to: int) -> None:
        lines = self.text.count(b"\n", self.at, to)
        if lines:
            self.line += lines
            self.column = to - self.text.rindex(b"\n", self.at, to)
        else:
            self.column += to - self.at
        self.at = to

    def _fill(self) -> bool:
        # Pieces grow with what is kept, so that a long row is not scanned over and over.
        piece = self.stream.read(max(_PIECE, len(self.text) - self.at))
        self.ended = not piece
        self.text = self.text[self.at :] + piece
        self.at = 0
        return not self.ended


_COMMA_TOO_MANY = re.compile(r",\s*[}\]]")
_NUMBER_KEY = re.compile(r"[{,]\s*-?\d[\d.]*\s*:")


def too_long(source: DataFile, line: int) -> ReadError:
    """Return the error for a row beyond the longest allowed."""
    bound = MAX_ROW_BYTES // MIB
    what = f"begins a row of more than {bound} MiB; the longest allowed is {bound} MiB."
    remedy = "Write one row a line, and split long documents."
    return read_error(source.name, what, remedy, code="row-too-long", line=line)


def no_object(source: DataFile, mark: bytes, line: int, column: int) -> ReadError:
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
    return read_error(source.name, what, remedy, code=code, line=line, column=column)


def not_json(
    source: DataFile, text: bytes, error: orjson.JSONDecodeError, line: int, column: int = 1
) -> ReadError:
    """Return the error that names the place inside `text`, which begins at `line` and `column`."""
    try:
        shown = text.decode()
    except UnicodeDecodeError as bad:
        return _not_utf8(source, text, bad.start, line, column)
    place = error.colno if error.lineno > 1 else column + error.colno - 1
    what = f"is not JSON: {error.msg}."
    code, remedy = cause_of(shown, error)
    return read_error(
        source.name, what, remedy, code=code, line=line + error.lineno - 1, column=place
    )


def _not_utf8(source: DataFile, text: bytes, at: int, line: int, column: int) -> ReadError:
    lines = text.count(b"\n", 0, at)
    before = text[:at].rpartition(b"\n")[2]
    place = len(before.decode(errors="replace")) + (1 if lines else column)
    surrogate = text[at] == 0xED and text[at + 1 : at + 2] >= b"\xa0"
    what = f"holds the byte 0x{text[at]:02X}, which is not UTF-8."
    remedy, code = "Save the file as UTF-8.", "not-utf-8"
    if surrogate:
        what, code = "holds half of a character (a lone surrogate).", "lone-surrogate"
        remedy = "Export the text again, or take the character out."
    return read_error(source.name, what, remedy, code=code, line=line + lines, column=place)


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
