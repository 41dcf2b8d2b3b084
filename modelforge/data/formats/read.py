"""A data file to its rows, one at a time, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelforge.data.formats.csv import table_rows
from modelforge.data.formats.errors import OnFault
from modelforge.data.formats.json import json_rows
from modelforge.data.formats.sniff import Row, Source, recognise
from modelforge.data.formats.text import prose_rows

__all__ = ["Row", "read_rows", "rows_of_source"]


def read_rows(path: Path, on_fault: OnFault | None = None) -> Iterator[Row]:
    """Yield the rows of `path` as they stand in the file.

    Memory is bounded by the longest row. Nothing in the file is interpreted. Raises DataError at
    the first place that cannot be read, with line, column and remedy; with `on_fault` it is told
    instead, and reading goes on behind it where that is possible.
    """
    return rows_of_source(recognise(Path(path)), on_fault)


def rows_of_source(source: Source, on_fault: OnFault | None = None) -> Iterator[Row]:
    """Yield the rows of a file that has been recognised, as `read_rows` does."""
    if source.format == "json":
        return json_rows(source, on_fault)
    if source.format in ("parquet", "arrow"):
        # pyarrow costs 0.2 s, which the other formats need not pay.
        from modelforge.data.formats.parquet import arrow_rows, parquet_rows  # noqa: PLC0415

        return (parquet_rows if source.format == "parquet" else arrow_rows)(source)
    if source.format in ("text", "markdown"):
        return prose_rows(source)
    return table_rows(source, on_fault)
