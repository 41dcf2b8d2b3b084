"""Read CSV and TSV: the first line names the columns, and every cell is text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import BinaryIO, Literal

from modelforge.data.formats.encoding import HEAD_BYTES
from modelforge.data.formats.errors import OnReadError, ReadError, read_error, report_error
from modelforge.data.formats.sniff import (
    DELIMITERS,
    MAX_ROW_BYTES,
    DataFile,
    Row,
    refuse_many_columns,
)

# An unclosed quote takes in everything after it, so reading starts again behind its line.
_MAX_RESTARTS = 20
# The line in which Excel names the delimiter.
_SEPARATOR_LINE = re.compile(r"\"?sep=([,;\t|])\"?[ ]*\r?\n", re.IGNORECASE)
# A cell that begins with a word in quotation marks, which are not around the whole cell.
_QUOTED_WORD = re.compile(r'"[^"]*(?:""[^"]*)*"[^"\r\n]')


def read_csv(file: DataFile, on_error: OnReadError | None = None) -> Iterator[Row]:
    """Yield every row; a row with another number of cells than the header is a read error."""
    csv.field_size_limit(MAX_ROW_BYTES)
    table = _Table(file, on_error)
    for _ in range(_MAX_RESTARTS):
        yield from table.rows()
        if not table.must_restart:
            return


def detect_delimiter(file: DataFile) -> str:
    """Return the delimiter that splits the header into most columns; a comma if none does."""
    head = _head(file)
    separator = _SEPARATOR_LINE.match(head)
    if separator is not None:
        return separator[1]
    header = re.split(r"[\r\n]", head.lstrip("\r\n"), maxsplit=1)[0]
    counts = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in DELIMITERS}
    return max(DELIMITERS, key=lambda mark: counts[mark])


def _head(file: DataFile) -> str:
    with file.open() as stream:
        return stream.read(HEAD_BYTES).decode(errors="replace")


def has_quotes(head: str, delimiter: str) -> bool:
    """Return whether cells in double quotes are quoted; tab-separated files may have no quoting.

    There a cell may begin with a quotation mark that belongs to its text.
    """
    if delimiter != "\t":
        return True
    cells = (cell for line in head.splitlines() for cell in line.split("\t"))
    return not any(_QUOTED_WORD.match(cell) for cell in cells)


class _Table:
    def __init__(self, file: DataFile, on_error: OnReadError | None) -> None:
        self.file = file
        self.on_error = on_error
        self.delimiter = detect_delimiter(file)
        self.header: list[str] = []
        head = _head(file)
        self.lines_done = int(_SEPARATOR_LINE.match(head) is not None)
        self.is_quoted = has_quotes(head, self.delimiter)
        self.must_restart = False

    def rows(self) -> Iterator[Row]:
        self.must_restart = False
        with self.file.open() as stream:
            lines = _text_lines(self.file, stream, self.lines_done, self.on_error)
            quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.is_quoted else csv.QUOTE_NONE
            reader = csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=True)
            skipped = self.lines_done
            while not self.must_restart:
                line = skipped + reader.line_num + 1
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    report_error(_csv_error(self.file, line, error), self.on_error)
                    self.must_restart = skipped + reader.line_num > line
                    self.lines_done = line
                    continue
                if cells is None:
                    return
                row = self._row(cells, line)
                if row is not None:
                    yield row

    def _row(self, cells: list[str], line: int) -> Row | None:
        if not self.header:
            self.header = _read_header(self.file, cells, line, self.on_error)
        elif len(cells) == len(self.header):
            return Row(line, dict(zip(self.header, cells, strict=True)))
        elif cells:
            error = _ragged_row(self.file, line, len(cells), len(self.header), self.delimiter)
            report_error(error, self.on_error)
        return None


def _text_lines(
    file: DataFile, stream: BinaryIO, skip: int, on_error: OnReadError | None
) -> Iterator[str]:
    number = 0
    while line := stream.readline(MAX_ROW_BYTES):
        number += 1
        if number <= skip:
            continue
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            what = f"contains the byte 0x{line[error.start]:02X}, which is not valid UTF-8."
            column = len(line[: error.start].decode(errors="replace")) + 1
            remedy = "Save the file as UTF-8 (in Excel: “CSV UTF-8”)."
            invalid = read_error(
                file.name, what, remedy, code="not-utf-8", line=number, column=column
            )
            report_error(invalid, on_error, line)
            yield line.decode(errors="replace")


def _read_header(
    file: DataFile, cells: list[str], line: int, on_error: OnReadError | None
) -> list[str]:
    names: dict[str, None] = {}
    if not any(cell.strip() for cell in cells):
        return []
    refuse_many_columns(file, len(cells))
    for number, cell in enumerate(cells, start=1):
        name = cell.strip()
        what = ""
        if not name:
            what, code = f"has no name for column {number}.", "unnamed-column"
            remedy = "Name every column in the first line."
            name = f"column {number}"
        elif name in names:
            what, code = f"names two columns “{name[:60]}”.", "duplicate-column"
            remedy = "Give every column its own name."
            name = f"{name} {number}"
        if what:
            error = read_error(file.name, what, remedy, code=code, line=line, column=number)
            report_error(error, on_error)
        names[name] = None
    return list(names)


def _ragged_row(file: DataFile, line: int, cells: int, columns: int, delimiter: str) -> ReadError:
    mark = "tab" if delimiter == "\t" else f"“{delimiter}”"
    what = f"has {cells} {'cell' if cells == 1 else 'cells'}; the header has {columns}."
    remedy = f"Put text that contains a {mark} in double quotes."
    column = min(cells, columns) + 1
    return read_error(file.name, what, remedy, code="ragged-row", line=line, column=column)


def _csv_error(file: DataFile, line: int, error: csv.Error) -> ReadError:
    reason = str(error)
    if "unexpected end of data" in reason or "field larger" in reason:
        what, code = "opens a double quote that is never closed.", "unclosed-quote"
        remedy = "Close it at the end of the cell."
    elif "expected after" in reason:
        what, code = "has text after a closing double quote.", "text-after-quote"
        remedy = 'Write a double quote inside a cell twice, as "".'
    else:
        what, code = f"is not valid CSV: {reason}.", "bad-csv"
        remedy = "Export the table as CSV again."
    return read_error(file.name, what, remedy, code=code, line=line)
