"""Rows of JSON Lines and of JSON: a list, an object that holds one, or objects in a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

import orjson

from modelforge.data.formats.errors import OnReadError, report_error
from modelforge.data.formats.json_scanner import (
    Scanner,
    no_object,
    not_json,
    shown,
    too_long,
    value_end,
)
from modelforge.data.formats.sniff import (
    HEAD_BYTES,
    MAX_ROW_BYTES,
    DataFile,
    ReadError,
    Row,
    read_error,
)

JsonLayout = Literal["lines", "array", "wrapped", "values"]

_CHATS = (b'"messages"', b'"conversations"')


def read_json_rows(source: DataFile, on_fault: OnReadError | None = None) -> Iterator[Row]:
    """Yield every row; a place that is not JSON, or no object, is a fault."""
    shape = detect_layout(source)
    with source.open() as stream:
        if shape == "lines":
            for row, _ in read_json_lines(source, stream, on_fault):
                yield row
            return
        scanner = Scanner(source, stream)
        try:
            if shape == "array":
                scanner.take(b"[")
                yield from _elements(scanner, on_fault)
            elif shape == "wrapped":
                scanner.take(b"{")
                _find_list(scanner)
                yield from _elements(scanner, on_fault)
            else:
                yield from _values(scanner, on_fault)
        except ReadError as fault:
            # Behind this place nobody can say where the next row begins.
            report_error(fault, on_fault, fault.raw)


def read_json_lines(
    source: DataFile, stream: BinaryIO, on_fault: OnReadError | None = None
) -> Iterator[tuple[Row, bytes]]:
    """Yield the row of every line, and the line as it stands."""
    number = 0
    parse = orjson.loads
    while line := stream.readline(MAX_ROW_BYTES):
        number += 1
        try:
            data = parse(line)
        except orjson.JSONDecodeError as error:
            if not line.strip():
                continue
            if len(line) == MAX_ROW_BYTES:
                report_error(too_long(source, number), on_fault)
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_ROW_BYTES)
            else:
                report_error(not_json(source, line, error, number), on_fault, line)
            continue
        if type(data) is not dict:
            report_error(no_object(source, line.lstrip()[:1], number, 1), on_fault, line)
            continue
        yield Row(number, data), line


def detect_layout(source: DataFile) -> JsonLayout:
    """Return how the rows are written: a line each, in a list, in a list inside, or in a row."""
    with source.open() as stream:
        return _shape(stream.read(HEAD_BYTES), source.suffix)


def _values(scanner: Scanner, on_fault: OnReadError | None) -> Iterator[Row]:
    while scanner.peek():
        row = _row(scanner, on_fault)
        if row is not None:
            yield row


def _row(scanner: Scanner, on_fault: OnReadError | None) -> Row | None:
    """Return the row that comes next, or nothing when it was a fault that is told."""
    try:
        return scanner.row()
    except ReadError as fault:
        if fault.raw is None:  # its end was not found
            raise
        report_error(fault, on_fault, fault.raw)
        return None


def _elements(scanner: Scanner, on_fault: OnReadError | None) -> Iterator[Row]:
    if scanner.peek() == b"]":
        return
    while True:
        row = _row(scanner, on_fault)
        if row is not None:
            yield row
        mark = scanner.peek()
        if mark == b"]":
            break
        if mark == b"":
            what = "ends before its list is closed."
            remedy = "The file was cut off; export it again."
            raise scanner.trouble(what, remedy, "list-not-closed")
        if mark != b",":
            what = f"has {shown(mark)} where a comma or ] is due."
            report_error(
                scanner.trouble(what, "Put a comma between two rows.", "no-comma"), on_fault
            )
            if mark != b"{":
                raise scanner.trouble(what, "Put a comma between two rows.", "no-comma")
            continue
        scanner.take(b",")
        if scanner.peek() == b"]":
            what = "has a comma before the end of the list."
            report_error(scanner.trouble(what, "Remove that comma.", "trailing-comma"), on_fault)
            break
    scanner.take(b"]")


def _find_list(scanner: Scanner) -> None:
    """Stand behind the [ of the first list of objects in the outer object."""
    while scanner.peek() == b'"':
        key = scanner.value()
        scanner.take(b":")
        if scanner.peek() == b"[" and key not in _CHATS and scanner.opens_rows():
            scanner.take(b"[")
            return
        scanner.value()
        if scanner.peek() == b",":
            scanner.take(b",")
    remedy = 'Give a list of objects, as in [{"input": "…", "output": "…"}].'
    raise read_error(
        scanner.source.name,
        "holds one object without a list of rows.",
        remedy,
        code="object-not-list",
        line=1,
        column=1,
    )


def _shape(head: bytes, suffix: str) -> JsonLayout:
    text = head.lstrip()
    if text[:1] == b"[":
        return "array"
    first, newline, rest = text.partition(b"\n")
    row = _object(first)
    if row is not None:
        return "wrapped" if _holds_rows(row) and not rest.strip() else "lines"
    spread = bool(newline) and first.rstrip()[-1:] in (b"{", b"[", b",", b":")
    end = value_end(text, 0)
    if end == -1:
        return "wrapped" if text[:1] == b"{" and (suffix == ".json" or spread) else "lines"
    row = _object(text[:end])
    if row is None:
        return "values" if spread else "lines"
    return "wrapped" if _holds_rows(row) and not text[end:].strip() else "values"


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _holds_rows(row: dict[str, Any]) -> bool:
    return any(
        isinstance(value, list) and value and isinstance(value[0], dict)
        for key, value in row.items()
        if key not in ("messages", "conversations")
    )
