"""Rows of Parquet, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from modelforge.data.source import Row, Source, trouble
from modelforge.errors import DataError

_BATCH = 512


def parquet_rows(source: Source) -> Iterator[Row]:
    """Yield every row, numbered from 1; raises DataError for a damaged file."""
    number = 0
    try:
        with pq.ParquetFile(source.path) as file:
            names = file.schema_arrow.names
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                raise _doubled(source, doubled[0])
            for batch in file.iter_batches(batch_size=_BATCH):
                for data in batch.to_pylist():
                    number += 1
                    yield Row(number, data)
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = str(error).splitlines()[0][:120].rstrip(".") if str(error) else "unknown cause"
        what = f"is a damaged Parquet file ({reason})."
        remedy = "Export or download it again."
        raise trouble(source.name, what, remedy, line=number + 1 if number else None) from error


def _doubled(source: Source, name: str) -> DataError:
    return trouble(source.name, f"has two columns “{name}”.", "Give every column its own name.")
