"""Find where JSON values begin and end in a file that is read piece by piece."""

from __future__ import annotations

import re
from typing import BinaryIO

import orjson

from modelforge.data.formats.errors import ReadError, read_error
from modelforge.data.formats.sniff import MAX_ROW_BYTES, DataFile, Row
from modelforge.units import KIB, MIB

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}"]', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb"[^,\]}\s]++")
_PIECE_BYTES = 256 * KIB
_BYTE_QUOTE = ord('"')


def value_end(text: bytes, start: int) -> int:
    """Return the end of the object or array at `start`, or -1 if it is not in `text`."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        at, end = token.span()
        first = text[at]
        if first == _BYTE_QUOTE:
            if end - at == 1:
                return -1
        elif first in b"{[":
            depth += 1
        else:
            depth -= 1
            if depth <= 0:
                return end
    return -1


class JsonScanner:
    """A position in a JSON text that is read piece by piece, with its line and column."""

    def __init__(self, file: DataFile, stream: BinaryIO) -> None:
        self.file = file
        self.stream = stream
        self.text = b""
        self.at = 0
        self.line = 1
        self.column = 1
        self.at_end = False

    def peek(self) -> bytes:
        """Skip white space and return the next byte; empty at the end of the file."""
        while True:
            space = _SPACE.match(self.text, self.at)
            assert space is not None
            self._move_to(space.end())
            if self.at < len(self.text):
                return self.text[self.at : self.at + 1]
            if not self._fill():
                return b""

    def take(self, expected: bytes) -> None:
        """Move behind the byte `expected`, which must come next."""
        found = self.peek()
        if found != expected:
            what = f"has {quote_byte(found)} where {expected.decode()} is expected."
            raise self.error(what, "Check the file with a JSON editor.")
        self._move_to(self.at + 1)

    def opens_rows(self) -> bool:
        """Return whether the array that comes next begins with an object; does not move."""
        for _ in range(2):
            start = re.match(rb"\[\s*+(.)", self.text[self.at :], re.DOTALL)
            if start is not None:
                return start.group(1) == b"{"
            self._fill()
        return False

    def row(self) -> Row:
        """Return the next value as a row; raises ReadError if it is not an object."""
        mark = self.peek()
        line, column = self.line, self.column
        error = None if mark == b"{" else not_an_object(self.file, mark, line, column)
        if error is not None and not (mark and mark in b'["-0123456789ntf'):
            raise error
        text = self.value()
        if error is not None:
            error.raw = text
            raise error
        try:
            return Row(line, orjson.loads(text))
        except orjson.JSONDecodeError as decode_error:
            invalid = not_json(self.file, text, decode_error, line, column)
            invalid.raw = text
            raise invalid from decode_error

    def value(self) -> bytes:
        """Return the text of the next value; only its end is checked."""
        first = self.peek()
        while True:
            end = self._end_of_value(first)
            if end != -1 and (end < len(self.text) or self.at_end or first in b'{["'):
                if end - self.at > MAX_ROW_BYTES:
                    raise row_too_long(self.file, self.line)
                text = self.text[self.at : end]
                self._move_to(end)
                return text
            is_too_long = len(self.text) - self.at > MAX_ROW_BYTES
            if is_too_long or not self._fill():
                raise self._unfinished_value(is_too_long)

    def error(self, what: str, remedy: str, code: str = "bad-json") -> ReadError:
        """Return a read error at this position."""
        name = self.file.name
        return read_error(name, what, remedy, code=code, line=self.line, column=self.column)

    def _end_of_value(self, first: bytes) -> int:
        if first in (b"{", b"["):
            return value_end(self.text, self.at)
        pattern = _TOKEN if first == b'"' else _SCALAR
        token = pattern.match(self.text, self.at)
        if token is None or token.group() == b'"':
            return -1
        return token.end()

    def _unfinished_value(self, is_too_long: bool) -> ReadError:
        # The cause is usually well before the end that was not found.
        rest = self.text[self.at :]
        if is_too_long:
            rest = rest.decode(errors="ignore").encode()
        try:
            orjson.loads(rest)
        except orjson.JSONDecodeError as error:
            if error.pos < len(error.doc) - 1:
                return not_json(self.file, rest, error, self.line, self.column)
        if is_too_long:
            return row_too_long(self.file, self.line)
        remedy = "The file is incomplete, or a quote or bracket is not closed."
        return self.error("begins a value that never ends.", remedy, "truncated-json")

    def _move_to(self, to: int) -> None:
        lines = self.text.count(b"\n", self.at, to)
        if lines:
            self.line += lines
            self.column = to - self.text.rindex(b"\n", self.at, to)
        else:
            self.column += to - self.at
        self.at = to

    def _fill(self) -> bool:
        # Pieces grow with the kept text, so that a long row is not scanned many times.
        piece = self.stream.read(max(_PIECE_BYTES, len(self.text) - self.at))
        self.at_end = not piece
        self.text = self.text[self.at :] + piece
        self.at = 0
        return not self.at_end


_TRAILING_COMMA = re.compile(r",\s*[}\]]")
_NUMERIC_KEY = re.compile(r"[{,]\s*-?\d[\d.]*\s*:")
# What a value is by its first byte, if it is not an object.
_KINDS = {
    b"[": ("a list", "row-is-list"),
    b'"': ("a text", "row-is-text"),
    b"": ("nothing", "row-missing"),
    b"n": ("null", "row-is-null"),
    b"t": ("true", "row-is-boolean"),
    b"f": ("false", "row-is-boolean"),
} | {bytes([digit]): ("a number", "row-is-number") for digit in b"-0123456789"}


def row_too_long(file: DataFile, line: int) -> ReadError:
    """Return the error for a row longer than MAX_ROW_BYTES."""
    what = f"begins a row longer than {MAX_ROW_BYTES // MIB} MiB, the maximum."
    remedy = "Write one row per line, and split long documents."
    return read_error(file.name, what, remedy, code="row-too-long", line=line)


def not_an_object(file: DataFile, mark: bytes, line: int, column: int) -> ReadError:
    """Return the error for a row that is not an object; `mark` is its first byte."""
    kind, code = _KINDS.get(mark, (quote_byte(mark), "bad-json"))
    what = f"has {kind} where a row is expected; a row is an object with named fields."
    remedy = 'Write each row as {"input": "…", "output": "…"}.'
    return read_error(file.name, what, remedy, code=code, line=line, column=column)


def not_json(
    file: DataFile, text: bytes, error: orjson.JSONDecodeError, line: int, column: int = 1
) -> ReadError:
    """Return the error for invalid JSON `text`, which begins at `line` and `column`."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError as invalid:
        return _not_utf8(file, text, invalid.start, line, column)
    place = error.colno if error.lineno > 1 else column + error.colno - 1
    what = f"is not valid JSON: {error.msg}."
    code, remedy = find_json_cause(decoded, error)
    line += error.lineno - 1
    if code == "truncated-json":  # the end of the text, not the line after it
        last = decoded.rstrip().rpartition("\n")[2]
        line -= decoded.count("\n", len(decoded.rstrip()), error.pos)
        place = len(last) + (column if "\n" not in decoded.rstrip() else 1)
    return read_error(file.name, what, remedy, code=code, line=line, column=place)


def _not_utf8(file: DataFile, text: bytes, at: int, line: int, column: int) -> ReadError:
    lines = text.count(b"\n", 0, at)
    before = text[:at].rpartition(b"\n")[2]
    place = len(before.decode(errors="replace")) + (1 if lines else column)
    is_surrogate = text[at] == 0xED and text[at + 1 : at + 2] >= b"\xa0"
    if is_surrogate:
        what, code = "contains half of a character (a lone surrogate).", "lone-surrogate"
        remedy = "Export the text again, or remove the character."
    else:
        what = f"contains the byte 0x{text[at]:02X}, which is not valid UTF-8."
        remedy, code = "Save the file as UTF-8.", "not-utf-8"
    return read_error(file.name, what, remedy, code=code, line=line + lines, column=place)


_BY_MESSAGE = (
    ("surrogate", "lone-surrogate", "Remove the incomplete character."),
    ("recursion", "deep-nesting", "Write the text itself, without objects inside objects."),
)


_MARK = "mark-after-row", "Remove the mark after the row."
_TRUNCATED = "truncated-json", "The row is incomplete; close its quotes and brackets."
_BY_REST = {"": _TRUNCATED, ",": _MARK, ";": _MARK}


def find_json_cause(text: str, error: orjson.JSONDecodeError) -> tuple[str, str]:
    """Return the code of the cause of a JSON error, and the remedy."""
    at = error.pos
    around = text[max(0, at - 1) : at + 1]
    word = text[at : at + 8]
    for cause, code, remedy in _BY_MESSAGE:
        if cause in error.msg.lower():
            return code, remedy
    rest = text[at:].strip()
    if rest in _BY_REST:
        return _BY_REST[rest]
    if "'" in around:
        return "single-quotes", "Use double quotes around names and texts."
    if word.startswith(("NaN", "Inf", "-Inf")) or around.startswith("-I"):
        return "not-a-number", "Write null instead of NaN or Infinity."
    if word.startswith(("None", "True", "False")):
        return "python-literals", "Write null, true and false in JSON spelling."
    if _matches_near(_TRAILING_COMMA, text, at, 1):
        return "trailing-comma", "Remove the comma before the closing bracket."
    if _matches_near(_NUMERIC_KEY, text, at, 2):
        return "numeric-keys", 'Put names in double quotes, as in {"1": "…"}.'
    if ord(text[at]) < 32:
        return "raw-control-character", "Write line breaks and tabs in texts as \\n and \\t."
    return "bad-json", "Write one complete JSON object per row."


def _matches_near(pattern: re.Pattern[str], text: str, at: int, distance: int) -> bool:
    starts = range(max(0, at - distance), at + 1)
    return any(pattern.match(text, start) is not None for start in starts)


def quote_byte(mark: bytes) -> str:
    """Return a byte as quoted in messages."""
    return f"“{mark.decode(errors='replace')}”" if mark else "the end of the file"
