"""A data file to its rows, one at a time, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelforge.data.json_rows import json_rows
from modelforge.data.source import Row, recognise
from modelforge.data.table_rows import table_rows

__all__ = ["Row", "read_rows"]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of `path` as they stand in the file.

    Memory is bounded by the longest row. Nothing in the file is interpreted. Raises DataError at
    the first place that cannot be read, with line, column and remedy.
    """
    source = recognise(Path(path))
    if source.format == "json":
        return json_rows(source)
    if source.format == "parquet":
        # pyarrow costs 0.2 s, which the other formats need not pay.
        from modelforge.data.parquet_rows import parquet_rows  # noqa: PLC0415

        return parquet_rows(source)
    return table_rows(source)
