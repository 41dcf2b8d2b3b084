"""Read Parquet and Arrow files batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modelforge.data.formats.sniff import DataFile, ReadError, Row, read_error

_BATCH_ROWS = 512
_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)


def read_parquet(file: DataFile) -> Iterator[Row]:
    """Yield every row, numbered from 1; raises ReadError for a damaged file."""
    number = 0
    try:
        with pq.ParquetFile(file.path) as table:
            _refuse_duplicate_columns(file, table.schema_arrow.names)
            for row in _numbered_rows(table.iter_batches(batch_size=_BATCH_ROWS)):
                number = row.line
                yield row
    except _ERRORS as error:
        raise _damaged(file, "Parquet", error, number) from error


def read_arrow(file: DataFile) -> Iterator[Row]:
    """Yield every row of an Arrow file or stream, as `read_parquet` does."""
    number = 0
    try:
        with closing(pa.memory_map(str(file.path))) as mapped:
            batches, names = _arrow_batches(mapped)
            _refuse_duplicate_columns(file, names)
            for row in _numbered_rows(batches):
                number = row.line
                yield row
    except _ERRORS as error:
        raise _damaged(file, "Arrow", error, number) from error


def _arrow_batches(mapped: Any) -> tuple[Iterable[Any], list[str]]:
    is_file = mapped.read(6) == b"ARROW1"
    mapped.seek(0)
    if is_file:
        table = pa.ipc.open_file(mapped)
        batches = (table.get_batch(index) for index in range(table.num_record_batches))
        return batches, table.schema.names
    stream = pa.ipc.open_stream(mapped)
    return iter(stream), stream.schema.names


def _numbered_rows(batches: Iterable[Any]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for data in batch.slice(start, _BATCH_ROWS).to_pylist():
                number += 1
                yield Row(number, data)


def _refuse_duplicate_columns(file: DataFile, names: list[str]) -> None:
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        what = f"has two columns “{duplicates[0]}”."
        remedy = "Give every column its own name."
        raise read_error(file.name, what, remedy, code="duplicate-column", column=duplicates[0])


def _damaged(file: DataFile, kind: str, error: Exception, rows_read: int) -> ReadError:
    text = str(error)
    reason = text.splitlines()[0][:120].rstrip(".") if text else "unknown cause"
    remedy = "Export or download it again."
    lacks_end = any(word in text.lower() for word in ("footer", "magic", "too small"))
    if "encrypt" in text.lower():
        what, code, remedy = f"is encrypted {kind}.", "encrypted", "Save it without encryption."
    elif not rows_read and lacks_end:
        what, code = f"is a {kind} file without its end ({reason}).", "truncated-table"
    else:
        what, code = f"is a damaged {kind} file ({reason}).", "damaged-table"
    line = rows_read + 1 if rows_read else None
    return read_error(file.name, what, remedy, code=code, line=line)
