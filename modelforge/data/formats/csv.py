"""Rows of CSV and TSV: the first line names the columns, every cell is text."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from modelforge.data.formats.errors import OnReadError, report_error
from modelforge.data.formats.sniff import (
    HEAD_BYTES,
    MAX_ROW_BYTES,
    DataFile,
    ReadError,
    Row,
    read_error,
)

DELIMITERS = ",;\t|"
# A quote that is never closed swallows all that follows, so the file is read anew behind it.
_MOST_RESTARTS = 20


def read_csv(source: DataFile, on_fault: OnReadError | None = None) -> Iterator[Row]:
    """Yield every row; a row that does not fit under the header is a fault."""
    csv.field_size_limit(MAX_ROW_BYTES)
    table = _Table(source, on_fault)
    for _ in range(_MOST_RESTARTS):
        yield from table.rows()
        if not table.again:
            return


def detect_delimiter(source: DataFile) -> str:
    """Return the mark that parts the header into most columns; a comma when none does."""
    with source.open() as stream:
        head = stream.read(HEAD_BYTES)
    first = head.decode(errors="replace").lstrip("\r\n").split("\n", 1)[0]
    counts = {mark: len(next(csv.reader([first], delimiter=mark), [])) for mark in DELIMITERS}
    return max(DELIMITERS, key=lambda mark: counts[mark])


class _Table:
    def __init__(self, source: DataFile, on_fault: OnReadError | None) -> None:
        self.source = source
        self.on_fault = on_fault
        self.delimiter = detect_delimiter(source)
        self.header: list[str] = []
        self.start = 0  # lines before this one have been read
        self.again = False

    def rows(self) -> Iterator[Row]:
        self.again = False
        with self.source.open() as stream:
            lines = _text_lines(self.source, stream, self.start, self.on_fault)
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            before = self.start
            while not self.again:
                begins = before + reader.line_num + 1
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    report_error(_bad_csv(self.source, begins, error), self.on_fault)
                    self.again = before + reader.line_num > begins
                    self.start = begins
                    continue
                if cells is None:
                    return
                row = self._row(cells, begins)
                if row is not None:
                    yield row

    def _row(self, cells: list[str], begins: int) -> Row | None:
        if not self.header:
            self.header = _header(self.source, cells, begins, self.on_fault)
        elif len(cells) == len(self.header):
            return Row(begins, dict(zip(self.header, cells, strict=True)))
        elif cells:
            fault = _ragged(self.source, begins, len(cells), len(self.header), self.delimiter)
            report_error(fault, self.on_fault)
        return None


def _text_lines(
    source: DataFile, stream: BinaryIO, skip: int, on_fault: OnReadError | None
) -> Iterator[str]:
    number = 0
    while line := stream.readline(MAX_ROW_BYTES):
        number += 1
        if number <= skip:
            continue
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            what = f"holds the byte 0x{line[error.start]:02X}, which is not UTF-8."
            column = len(line[: error.start].decode(errors="replace")) + 1
            remedy = "Save the file as UTF-8 (in Excel: “CSV UTF-8”)."
            fault = read_error(
                source.name, what, remedy, code="not-utf-8", line=number, column=column
            )
            report_error(fault, on_fault, line)
            yield line.decode(errors="replace")


def _header(
    source: DataFile, cells: list[str], line: int, on_fault: OnReadError | None
) -> list[str]:
    names: list[str] = []
    if not any(cell.strip() for cell in cells):
        return names
    for number, cell in enumerate(cells, start=1):
        name = cell.strip()
        if not name:
            what, code = f"gives column {number} no name.", "nameless-column"
            remedy = "Name every column in the first line."
            report_error(
                read_error(source.name, what, remedy, code=code, line=line, column=number), on_fault
            )
            name = f"column {number}"
        elif name in names:
            what, code = f"names two columns “{name[:60]}”.", "doubled-header"
            remedy = "Give every column its own name."
            report_error(
                read_error(source.name, what, remedy, code=code, line=line, column=number), on_fault
            )
            name = f"{name} {number}"
        names.append(name)
    return names


def _ragged(source: DataFile, line: int, cells: int, columns: int, delimiter: str) -> ReadError:
    mark = "tab" if delimiter == "\t" else f"“{delimiter}”"
    noun = "cell" if cells == 1 else "cells"
    what = f"has {cells} {noun}; the header has {columns}."
    remedy = f"Put text that holds a {mark} in double quotes."
    return read_error(
        source.name, what, remedy, code="ragged-row", line=line, column=min(cells, columns) + 1
    )


def _bad_csv(source: DataFile, line: int, error: csv.Error) -> ReadError:
    reason = str(error)
    if "unexpected end of data" in reason or "field larger" in reason:
        what, remedy = "opens a double quote that is never closed.", "Close it at the cell's end."
        code = "open-quote"
    elif "expected after" in reason:
        what = "has text behind a closing double quote."
        remedy = 'Write a double quote inside a cell twice, as "".'
        code = "text-behind-quote"
    else:
        what, remedy = f"is not CSV: {reason}.", "Export the table as CSV again."
        code = "bad-csv"
    return read_error(source.name, what, remedy, code=code, line=line)
