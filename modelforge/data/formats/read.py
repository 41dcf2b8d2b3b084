"""A data file to its rows, one at a time, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelforge.data.formats.csv import read_csv
from modelforge.data.formats.errors import OnReadError
from modelforge.data.formats.json import read_json_rows
from modelforge.data.formats.sniff import DataFile, Row, sniff_file
from modelforge.data.formats.text import read_text

__all__ = ["Row", "read_file_rows", "read_rows"]


def read_rows(path: Path, on_error: OnReadError | None = None) -> Iterator[Row]:
    """Yield the rows of `path` as they stand in the file.

    Memory is bounded by the longest row. Nothing in the file is interpreted. Raises DataError at
    the first place that cannot be read, with line, column and remedy; with `on_fault` it is told
    instead, and reading goes on behind it where that is possible.
    """
    return read_file_rows(sniff_file(Path(path)), on_error)


def read_file_rows(source: DataFile, on_error: OnReadError | None = None) -> Iterator[Row]:
    """Yield the rows of a file that has been recognised, as `read_rows` does."""
    if source.format == "json":
        return read_json_rows(source, on_error)
    if source.format in ("parquet", "arrow"):
        # pyarrow costs 0.2 s, which the other formats need not pay.
        from modelforge.data.formats.parquet import read_arrow, read_parquet  # noqa: PLC0415

        return (read_parquet if source.format == "parquet" else read_arrow)(source)
    if source.format in ("text", "markdown"):
        return read_text(source)
    return read_csv(source, on_error)
