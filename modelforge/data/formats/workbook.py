"""Read a sheet of an Excel workbook: a header, then one row per line."""

from __future__ import annotations

import difflib
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from typing import Any

from modelforge.data.formats.archive import damaged_archive
from modelforge.data.formats.errors import OnReadError, ReadError, read_error, report_error
from modelforge.data.formats.sniff import DataFile, Row, refuse_many_columns
from modelforge.data.formats.streams import MAX_EXPANDED_BYTES
from modelforge.units import KIB, human_bytes

# The reader keeps every cell between the first and the last in memory, also empty ones.
MAX_CELLS = 20_000_000
_PIECE_BYTES = 256 * KIB
_OVERLAP_BYTES = 64
_PLACE = re.compile(rb"\br\s{0,9}=\s{0,9}[\"']([A-Za-z]{0,4})(\d{1,12})[\"']")
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError)


def read_workbook(file: DataFile, on_error: OnReadError | None = None) -> Iterator[Row]:
    """Yield the rows of the chosen sheet, numbered as in Excel; empty rows are left out.

    Without a choice the first sheet with cells is read. Raises ReadError for an unknown sheet, a
    workbook that is too large or damaged, or a header without names.
    """
    with _open(file) as (workbook, names):
        for name in _wanted(file, names):
            sheet = workbook.get_sheet_by_name(name)
            if sheet.height or file.options.sheet:
                yield from _rows(file, sheet, on_error)
                return
    sheets = f"{len(names):,} {'sheet' if len(names) == 1 else 'sheets'}"
    remedy = "Use a workbook with a header and at least one row."
    raise read_error(file.name, f"has no cells in its {sheets}.", remedy, code="empty-file", line=1)


def sheet_names(file: DataFile) -> list[str]:
    """Return the names of the sheets of a workbook that may have cells; raises ReadError."""
    with _open(file) as (_, names):
        return names


@contextmanager
def _open(file: DataFile) -> Iterator[tuple[Any, list[str]]]:
    """Open a workbook with the names of its sheets; its errors become ReadError."""
    # The package is small, but files of other formats do not need it.
    try:
        from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum  # noqa: PLC0415
    except ImportError as error:
        what = "is an Excel workbook, and the package python-calamine, which reads it, is missing."
        remedy = "Run launch.py again to install it, or save the sheet as CSV."
        raise read_error(file.name, what, remedy, code="unsupported-format") from error

    _refuse_large(file)
    try:
        with CalamineWorkbook.from_path(file.path) as workbook:
            sheets = workbook.sheets_metadata
            yield workbook, [each.name for each in sheets if each.typ == SheetTypeEnum.WorkSheet]
    except (CalamineError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise _damaged(file) from error


def _wanted(file: DataFile, names: list[str]) -> list[str]:
    """Return the sheet that is set, else all of them."""
    wanted = file.options.sheet
    if wanted is None or wanted in names:
        return names if wanted is None else [wanted]
    near = difflib.get_close_matches(wanted, names, n=1)
    listed = ", ".join(name[:40] for name in names[:10])
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    what = f"has no sheet {wanted[:40]!r}, which is set as sheet."
    remedy = f"Did you mean {near[0][:40]}? " if near else ""
    remedy += f"Its sheets are {listed}{more}." if names else "It has no sheets with cells."
    raise read_error(file.name, what, remedy, code="sheet-missing")


def _rows(file: DataFile, sheet: Any, on_error: OnReadError | None) -> Iterator[Row]:
    header: list[str] = []
    first = sheet.start[0] + 1 if sheet.start else 1
    for number, cells in enumerate(sheet.iter_rows(), start=first):
        if all(cell in ("", None) for cell in cells):
            continue
        if not header:
            header = _header(file, cells, number, on_error)
            continue
        values = zip(header, cells, strict=False)
        yield Row(number, {name: _value(cell) for name, cell in values})


def _header(file: DataFile, cells: list[Any], line: int, on_error: OnReadError | None) -> list[str]:
    """Return the names of the columns; one without a name is called by its number."""
    refuse_many_columns(file, len(cells))
    names: list[str] = []
    for number, cell in enumerate(cells, start=1):
        name = str(_value(cell) if cell is not None else "").strip() or f"column {number}"
        if name in names:
            what = f"names two columns “{name[:60]}”."
            remedy = "Give every column its own name."
            code = "duplicate-column"
            error = read_error(file.name, what, remedy, code=code, line=line, column=number)
            report_error(error, on_error)
            name = f"{name} {number}"
        names.append(name)
    return names


def _value(cell: Any) -> Any:
    """Return a cell as plain data: whole numbers without a decimal point, dates as ISO text."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    return str(cell) if isinstance(cell, timedelta) else cell


def _refuse_large(file: DataFile) -> None:
    """Raise ReadError for a workbook that needs much memory, also one of a few distant cells.

    Reading its parts also checks that their sizes are as the archive says.
    """
    try:
        with zipfile.ZipFile(file.path) as archive:
            left = MAX_EXPANDED_BYTES
            for member in archive.infolist():
                rows, columns = 1, 1
                rest = b""
                with archive.open(member) as stream:
                    while piece := stream.read(_PIECE_BYTES):
                        left -= len(piece)
                        if left < 0:
                            raise _too_large(file, f"more than {human_bytes(MAX_EXPANDED_BYTES)}")
                        # A workbook may name any of its files as a sheet.
                        rest += piece
                        rows, columns = _extent(rest, rows, columns)
                        rest = rest[-_OVERLAP_BYTES:]
                if rows * columns > MAX_CELLS:
                    raise _too_large(file, f"{rows:,} rows and {columns:,} columns in a sheet")
    except _DAMAGE as error:
        raise damaged_archive(file.name) from error


def _extent(text: bytes, rows: int, columns: int) -> tuple[int, int]:
    """Return the last row and column of the cells that are named in a part of a sheet."""
    for letters, digits in _PLACE.findall(text):
        rows = max(rows, int(digits))
        column = 0
        for letter in letters.upper():
            column = 26 * column + letter - 64
        columns = max(columns, column)
    return rows, columns


def _too_large(file: DataFile, size: str) -> ReadError:
    what = f"is an Excel workbook with {size}; at most {MAX_CELLS:,} cells are read."
    remedy = "Delete empty rows and columns at the end of the sheet, or save it as CSV."
    return read_error(file.name, what, remedy, code="expands-too-much")


def _damaged(file: DataFile) -> ReadError:
    what = "is an Excel workbook that cannot be read; it is damaged or protected by a password."
    remedy = "Save it again in Excel, or as CSV."
    return read_error(file.name, what, remedy, code="damaged-table")
