"""Read the rows of a data file of any format, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelforge.data.formats.csv import read_csv
from modelforge.data.formats.errors import OnReadError
from modelforge.data.formats.json import read_json_rows
from modelforge.data.formats.sniff import DataFile, Row, sniff_file
from modelforge.data.formats.text import read_text

__all__ = ["Row", "read_file_rows", "read_rows"]


def read_rows(
    path: Path, on_error: OnReadError | None = None, encoding: str | None = None
) -> Iterator[Row]:
    """Yield the rows of a file as they are written; memory is bounded by the longest row.

    `on_error` is called with each read error, after which reading continues where possible; without
    it the first one is raised. The encoding is detected if it is None.
    """
    return read_file_rows(sniff_file(Path(path), encoding), on_error)


def read_file_rows(file: DataFile, on_error: OnReadError | None = None) -> Iterator[Row]:
    """Yield the rows of a file whose format is known, as `read_rows` does."""
    if file.format == "json":
        return read_json_rows(file, on_error)
    if not file.is_text:
        # Importing pyarrow takes 0.2 s, which other formats do not need.
        from modelforge.data.formats.parquet import read_arrow, read_parquet  # noqa: PLC0415

        return (read_parquet if file.format == "parquet" else read_arrow)(file)
    if file.format in ("text", "markdown"):
        return read_text(file)
    return read_csv(file, on_error)
