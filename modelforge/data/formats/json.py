"""Read JSON Lines and JSON: an array, an object that contains one, or a sequence of objects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Literal

import orjson

from modelforge.data.columns.names import KNOWN_COLUMNS
from modelforge.data.formats.encoding import HEAD_BYTES
from modelforge.data.formats.errors import OnReadError, ReadError, read_error, report_error
from modelforge.data.formats.json_scanner import (
    JsonScanner,
    not_an_object,
    not_json,
    quote_byte,
    row_too_long,
    value_end,
)
from modelforge.data.formats.sniff import MAX_ROW_BYTES, DataFile, Row

# `wrapped`: an object with an array of rows; `values`: objects that may span several lines.
JsonLayout = Literal["lines", "array", "wrapped", "values"]
# A row, and its line of JSON if it has one.
RawRow = tuple[Row, bytes | None]

# Marks behind an object that separate rows, wrongly.
MARKS_AFTER_ROW = b",; \t\r"
# The beginning of a table as pandas writes it, by columns or by rows.
_TABLE = re.compile(rb'\{\s*"(?:[^"\\]{1,200}"\s*:\s*\{\s*")?0"\s*:')


def read_json_rows(file: DataFile, on_error: OnReadError | None = None) -> Iterator[RawRow]:
    """Yield every row; a place that is not JSON, or not an object, is a read error."""
    rows = _read_rows(file, on_error)
    first = next(rows, None)
    if first is None:
        return
    table = _table_rows(first[0].data)
    second = None
    if not table and _is_table_of_lists(first[0].data):
        second = next(rows, None)
        table = [] if second else _rows_of_lists(first[0].data)
    if not table:
        yield first
    if second is not None:
        yield second
    yield from ((row, None) for row in table)
    yield from rows


def _read_rows(file: DataFile, on_error: OnReadError | None) -> Iterator[RawRow]:
    layout = detect_layout(file)
    with file.open() as stream:
        if layout == "lines":
            yield from read_json_lines(file, stream, on_error)
            return
        scanner = JsonScanner(file, stream)
        try:
            if layout == "wrapped":
                _find_array(scanner)
            read = _read_values if layout == "values" else read_array
            for row in read(scanner, on_error):
                yield row, None
            if layout == "array":
                yield from ((row, None) for row in _read_rest(scanner, on_error))
        except ReadError as error:
            # The start of the next row is unknown, so reading ends here.
            error.ends_reading = True
            report_error(error, on_error, error.raw)


def read_json_lines(
    file: DataFile, stream: BinaryIO, on_error: OnReadError | None = None
) -> Iterator[tuple[Row, bytes]]:
    """Yield the row of every line together with the line."""
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
                report_error(row_too_long(file, number), on_error)
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_ROW_BYTES)
            else:
                report_error(not_json(file, line, error, number), on_error, line)
            continue
        if type(data) is not dict:
            report_error(not_an_object(file, line.lstrip()[:1], number, 1), on_error, line)
            continue
        yield Row(number, data), line


def detect_layout(file: DataFile) -> JsonLayout:
    """Return how the rows of a JSON file are laid out."""
    with file.open() as stream:
        return _layout_of(stream.read(HEAD_BYTES), file.suffix)


def _read_values(scanner: JsonScanner, on_error: OnReadError | None) -> Iterator[Row]:
    while scanner.peek():
        row = _read_row(scanner, on_error)
        if row is not None:
            yield row


def _read_rest(scanner: JsonScanner, on_error: OnReadError | None) -> Iterator[Row]:
    """Yield the rows after the first array: files that were joined have several."""
    while (mark := scanner.peek()) and mark in b"[{":
        yield from (
            read_array(scanner, on_error) if mark == b"[" else _read_values(scanner, on_error)
        )
    if mark:
        what = f"has {quote_byte(mark)} after the end of the list."
        error = scanner.error(what, "Remove what follows the list.", "text-after-list")
        report_error(error, on_error)


def _read_row(scanner: JsonScanner, on_error: OnReadError | None) -> Row | None:
    """Return the next row; None if it was reported as a read error."""
    try:
        return scanner.row()
    except ReadError as error:
        if error.raw is None:  # the end of the value is unknown
            raise
        report_error(error, on_error, error.raw)
        return None


def read_array(scanner: JsonScanner, on_error: OnReadError | None) -> Iterator[Row]:
    """Yield the rows of the array that comes next; raises ReadError if its end is unknown."""
    scanner.take(b"[")
    if scanner.peek() == b"]":
        scanner.take(b"]")
        return
    while True:
        row = _read_row(scanner, on_error)
        if row is not None:
            yield row
        mark = scanner.peek()
        if mark == b"]":
            break
        if mark == b"":
            remedy = "The file is incomplete; export it again."
            raise scanner.error("ends before its array is closed.", remedy, "array-not-closed")
        if mark != b",":
            what = f"has {quote_byte(mark)} where a comma or ] is expected."
            error = scanner.error(what, "Put a comma between two rows.", "missing-comma")
            report_error(error, on_error)
            if mark != b"{":
                raise error
            continue
        scanner.take(b",")
        if scanner.peek() == b"]":
            what = "has a comma before the end of the array."
            error = scanner.error(what, "Remove that comma.", "trailing-comma")
            report_error(error, on_error)
            break
    scanner.take(b"]")


def unread_arrays(file: DataFile) -> list[str]:
    """Return the names of further lists of rows in one object, of which only the first is read."""
    if detect_layout(file) != "wrapped":
        return []
    names = []
    with file.open() as stream, suppress(ReadError):
        scanner = JsonScanner(file, stream)
        for key in _row_arrays(scanner):
            names.append(key.decode(errors="replace").strip('"'))
            for _ in read_array(scanner, lambda _error: None):
                pass
    return names[1:]


def _find_array(scanner: JsonScanner) -> None:
    """Move to the first array of objects in the outer object."""
    if next(_row_arrays(scanner), None) is None:
        what = "holds one object without a list of rows."
        remedy = 'Write a list of objects, as in [{"input": "…", "output": "…"}].'
        name, code = scanner.file.name, "object-without-rows"
        raise read_error(name, what, remedy, code=code, line=1, column=1)


def _row_arrays(scanner: JsonScanner) -> Iterator[bytes]:
    """Yield the key of every array of objects in an object; the caller reads the array."""
    scanner.take(b"{")
    while scanner.peek() == b'"':
        key = scanner.value()
        scanner.take(b":")
        if scanner.peek() == b"[" and scanner.opens_rows():
            yield key
        else:
            scanner.value()
        if scanner.peek() == b",":
            scanner.take(b",")


def _layout_of(head: bytes, suffix: str) -> JsonLayout:
    text = head.lstrip()
    if text[:1] == b"[":
        return "array"
    first_line, newline, rest = text.partition(b"\n")
    if _TABLE.match(text):
        return "values"
    row = _parse_object(first_line)
    if row is None and rest.lstrip()[:1] == b"{":  # a mark after each row
        row = _parse_object(first_line.rstrip(MARKS_AFTER_ROW))
    if row is not None:
        return "wrapped" if _contains_rows(row) and not rest.strip() else "lines"
    is_spread = bool(newline) and first_line.rstrip()[-1:] in (b"{", b"[", b",", b":")
    end = value_end(text, 0)
    if end == -1:
        return "wrapped" if text[:1] == b"{" and (suffix == ".json" or is_spread) else "lines"
    row = _parse_object(text[:end])
    if row is None:
        return "values" if is_spread else "lines"
    return "wrapped" if _contains_rows(row) and not text[end:].strip() else "values"


def _table_rows(data: dict[str, Any]) -> list[Row]:
    """Return the rows of a table in one object as pandas writes it; an empty list for others.

    By columns: {"input": {"0": …, "1": …}, …}; by rows: {"0": {"input": …}, …}.
    """
    columns = list(data.values())
    if not columns or not all(isinstance(column, dict) and column for column in columns):
        return []
    if all(key.isdigit() for key in data):
        return [Row(number, row) for number, row in enumerate(columns, start=1)]
    numbers = columns[0].keys()
    is_table = all(key.isdigit() for key in numbers) and "0" in numbers
    if not is_table or any(column.keys() != numbers for column in columns):
        return []
    rows = ({name: column[number] for name, column in data.items()} for number in numbers)
    return [Row(number, row) for number, row in enumerate(rows, start=1)]


def _is_table_of_lists(data: dict[str, Any]) -> bool:
    """Return whether an object may be a table: {"input": ["…", …], "output": ["…", …]}."""
    columns = list(data.values())
    return (
        len(columns) > 1
        and all(isinstance(column, list) and len(column) > 1 for column in columns)
        and len({len(column) for column in columns}) == 1
        and not any(isinstance(cell, list | dict) for column in columns for cell in column)
    )


def _rows_of_lists(data: dict[str, Any]) -> list[Row]:
    cells_of_rows = zip(*data.values(), strict=True)
    return [
        Row(number, dict(zip(data, cells, strict=True)))
        for number, cells in enumerate(cells_of_rows, start=1)
    ]


def _parse_object(text: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _contains_rows(data: dict[str, Any]) -> bool:
    """Return whether an object holds a list of rows, and is none itself."""
    is_row = not KNOWN_COLUMNS.isdisjoint(name.strip().lower() for name in data)
    return not is_row and any(
        isinstance(value, list) and value and isinstance(value[0], dict) for value in data.values()
    )
