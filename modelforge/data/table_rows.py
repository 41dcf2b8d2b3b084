"""Rows of CSV and TSV: the first line names the columns, every cell is text."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from modelforge.data.source import HEAD, LONGEST_ROW, Row, Source, trouble
from modelforge.errors import DataError

_DELIMITERS = ",;\t|"


def table_rows(source: Source) -> Iterator[Row]:
    """Yield every row; raises DataError where a row does not fit under the header."""
    csv.field_size_limit(LONGEST_ROW)
    with source.open() as stream:
        delimiter = _delimiter(stream.read(HEAD))
    with source.open() as stream:
        reader = csv.reader(_text_lines(source, stream), delimiter=delimiter, strict=True)
        header: list[str] = []
        begins = 1
        try:
            for cells in reader:
                if not header:
                    header = _header(source, cells, begins)
                elif cells:
                    if len(cells) != len(header):
                        raise _ragged(source, begins, len(cells), len(header), delimiter)
                    yield Row(begins, dict(zip(header, cells, strict=True)))
                begins = reader.line_num + 1
        except csv.Error as error:
            raise _bad_csv(source, begins, error) from error


def _text_lines(source: Source, stream: BinaryIO) -> Iterator[str]:
    number = 0
    while line := stream.readline(LONGEST_ROW):
        number += 1
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            what = f"holds the byte 0x{line[error.start]:02X}, which is not UTF-8."
            column = len(line[: error.start].decode(errors="replace")) + 1
            remedy = "Save the file as UTF-8 (in Excel: “CSV UTF-8”)."
            raise trouble(source.name, what, remedy, line=number, column=column) from error


def _delimiter(head: bytes) -> str:
    """Return the mark that parts the header into most columns; a comma when none does."""
    first = head.decode(errors="replace").lstrip("\r\n").split("\n", 1)[0]
    counts = {mark: len(next(csv.reader([first], delimiter=mark), [])) for mark in _DELIMITERS}
    return max(_DELIMITERS, key=lambda mark: counts[mark])


def _header(source: Source, cells: list[str], line: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not any(names):
        return []
    for number, name in enumerate(names):
        column = number + 1
        if not name:
            what = f"gives column {column} no name."
            raise trouble(source.name, what, "Name every column in the first line.", line=line)
        if name in names[:number]:
            what = f"names two columns “{name[:60]}”."
            raise trouble(source.name, what, "Give every column its own name.", line=line)
    return names


def _ragged(source: Source, line: int, cells: int, columns: int, delimiter: str) -> DataError:
    mark = "tab" if delimiter == "\t" else f"“{delimiter}”"
    noun = "cell" if cells == 1 else "cells"
    what = f"has {cells} {noun}; the header has {columns}."
    return trouble(source.name, what, f"Put text that holds a {mark} in double quotes.", line=line)


def _bad_csv(source: Source, line: int, error: csv.Error) -> DataError:
    reason = str(error)
    if "unexpected end of data" in reason or "field larger" in reason:
        what, remedy = "opens a double quote that is never closed.", "Close it at the cell's end."
    elif "expected after" in reason:
        what = "has text behind a closing double quote."
        remedy = 'Write a double quote inside a cell twice, as "".'
    else:
        what, remedy = f"is not CSV: {reason}.", "Export the table as CSV again."
    return trouble(source.name, what, remedy, line=line)
