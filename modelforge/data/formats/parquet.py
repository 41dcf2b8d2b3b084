"""Rows of Parquet and Arrow, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modelforge.data.formats.sniff import DataFile, ReadError, Row, read_error

_BATCH = 512
_TROUBLES = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)


def read_parquet(source: DataFile) -> Iterator[Row]:
    """Yield every row, numbered from 1; raises DataError for a damaged file."""
    number = 0
    try:
        with pq.ParquetFile(source.path) as file:
            _refuse_doubled(source, file.schema_arrow.names)
            for row in _numbered(file.iter_batches(batch_size=_BATCH)):
                number = row.line
                yield row
    except _TROUBLES as error:
        raise _damaged(source, "Parquet", error, number) from error


def read_arrow(source: DataFile) -> Iterator[Row]:
    """Yield every row of an Arrow file or stream, as `parquet_rows` does."""
    number = 0
    try:
        with closing(pa.memory_map(str(source.path))) as mapped:
            batches, names = _arrow_batches(mapped)
            _refuse_doubled(source, names)
            for row in _numbered(batches):
                number = row.line
                yield row
    except _TROUBLES as error:
        raise _damaged(source, "Arrow", error, number) from error


def _arrow_batches(mapped: Any) -> tuple[Iterable[Any], list[str]]:
    is_file = mapped.read(6) == b"ARROW1"
    mapped.seek(0)
    if is_file:
        file = pa.ipc.open_file(mapped)
        batches = (file.get_batch(index) for index in range(file.num_record_batches))
        return batches, file.schema.names
    stream = pa.ipc.open_stream(mapped)
    return iter(stream), stream.schema.names


def _numbered(batches: Iterable[Any]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH):
            for data in batch.slice(start, _BATCH).to_pylist():
                number += 1
                yield Row(number, data)


def _refuse_doubled(source: DataFile, names: list[str]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise read_error(
            source.name,
            f"has two columns “{doubled[0]}”.",
            "Give every column its own name.",
            code="doubled-header",
            column=doubled[0],
        )


def _damaged(source: DataFile, kind: str, error: Exception, number: int) -> ReadError:
    said = str(error)
    reason = said.splitlines()[0][:120].rstrip(".") if said else "unknown cause"
    remedy = "Export or download it again."
    if "encrypt" in said.lower():
        what, code, remedy = f"is encrypted {kind}.", "encrypted", "Save it without encryption."
    elif not number and any(word in said.lower() for word in ("footer", "magic", "too small")):
        what = f"is a damaged {kind} file: its end is missing ({reason})."
        code = "cut-off-table"
    else:
        what, code = f"is a damaged {kind} file ({reason}).", "damaged-table"
    return read_error(source.name, what, remedy, code=code, line=number + 1 if number else None)
