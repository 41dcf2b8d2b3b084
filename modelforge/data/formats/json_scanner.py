"""Where one JSON value ends and the next begins, in a file that is read in pieces."""

from __future__ import annotations

import re
from typing import BinaryIO

import orjson

from modelforge.data.formats.json_errors import no_object, not_json, shown, too_long
from modelforge.data.formats.sniff import LONGEST_ROW, Row, Source, UnreadableError, trouble

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

    def __init__(self, source: Source, stream: BinaryIO) -> None:
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
                if end - self.at > LONGEST_ROW:
                    raise too_long(self.source, self.line)
                piece = self.text[self.at : end]
                self._go(end)
                return piece
            long = len(self.text) - self.at > LONGEST_ROW
            if long or not self._fill():
                raise self._unended(long)

    def trouble(self, what: str, remedy: str, code: str = "bad-json") -> UnreadableError:
        """Return the error that names this place."""
        return trouble(
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

    def _unended(self, long: bool) -> UnreadableError:
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
