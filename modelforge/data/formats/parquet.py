"""Read Parquet and Arrow files batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modelforge.data.formats.errors import ReadError, read_error
from modelforge.data.formats.sniff import DataFile, Row, refuse_many_columns

_BATCH_ROWS = 512


def read_table(file: DataFile) -> Iterator[Row]:
    """Yield every row, numbered from 1; raises ReadError for a damaged file."""
    number = 0
    try:
        with ExitStack() as stack:
            batches, names = (_open_parquet if file.format == "parquet" else _open_arrow)(
                file, stack
            )
            refuse_many_columns(file, len(names))
            _refuse_duplicate_columns(file, names)
            for batch in batches:
                # Asking for maps as objects makes the conversion six times slower.
                has_maps = any("map<" in str(column) for column in batch.schema.types)
                options: dict[str, Any] = {"maps_as_pydicts": "lossy"} if has_maps else {}
                for start in range(0, batch.num_rows, _BATCH_ROWS):
                    for data in batch.slice(start, _BATCH_ROWS).to_pylist(**options):
                        number += 1
                        yield Row(number, {name: _stored(data[name]) for name in data})
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise _damaged(file, error, number) from error


def _stored(value: Any) -> Any:
    """Return a value without the keys that only its table's schema has.

    Arrow gives every object of a column the keys of all others, with the value null.
    """
    if type(value) is list:
        return [_stored(item) for item in value]
    if type(value) is not dict:
        return value
    if not any(item is None or type(item) in (dict, list) for item in value.values()):
        return value
    return {name: _stored(item) for name, item in value.items() if item is not None}


def _open_parquet(file: DataFile, stack: ExitStack) -> tuple[Iterable[Any], list[str]]:
    table = stack.enter_context(pq.ParquetFile(file.path))
    return table.iter_batches(batch_size=_BATCH_ROWS), table.schema_arrow.names


def _open_arrow(file: DataFile, stack: ExitStack) -> tuple[Iterable[Any], list[str]]:
    mapped = stack.enter_context(closing(pa.memory_map(str(file.path))))
    is_file = mapped.read(6) == b"ARROW1"
    mapped.seek(0)
    if is_file:
        table = pa.ipc.open_file(mapped)
        batches = (table.get_batch(index) for index in range(table.num_record_batches))
        return batches, table.schema.names
    stream = pa.ipc.open_stream(mapped)
    return iter(stream), stream.schema.names


def _refuse_duplicate_columns(file: DataFile, names: list[str]) -> None:
    duplicates = sorted(name for name, count in Counter(names).items() if count > 1)
    if duplicates:
        what = f"has two columns “{duplicates[0]}”."
        remedy = "Give every column its own name."
        raise read_error(file.name, what, remedy, code="duplicate-column", column=duplicates[0])


def _damaged(file: DataFile, error: Exception, rows_read: int) -> ReadError:
    kind = file.format.capitalize()
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
