"""Preview rows: as they are written in the file, and as training reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from modelforge.data.canonical.convert import UnusableRowError, to_canonical
from modelforge.data.formats.read import read_rows

if TYPE_CHECKING:
    from modelforge.data.sources.load import LoadedSource

MAX_TEXT_CHARS = 2_000
MAX_ITEMS = 100
MAX_DEPTH = 8


@dataclass(frozen=True)
class PreviewRow:
    """A row: `raw` as written, `reads` in canonical form or None, `why` the code if unusable."""

    file: str
    line: int
    raw: dict[str, Any]
    reads: dict[str, Any] | None
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return asdict(self)


def preview_rows(sources: Iterable[LoadedSource]) -> Iterator[PreviewRow]:
    """Yield the rows of all sources in the order of their files; raises ReadError as reading."""
    for loaded in sources:
        for path in loaded.files:
            for line, data in read_rows(path, encoding=loaded.source.encoding):
                reads, why = None, ""
                try:
                    reads = to_canonical(data, loaded.mapping)
                except UnusableRowError as error:
                    why = error.code
                yield PreviewRow(path.name, line, truncate(data), truncate(reads), why)


def truncate(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON data, with long texts and lists shortened and marked so."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        # Lone surrogates cannot be encoded.
        text = value[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode()
        more = len(value) - MAX_TEXT_CHARS
        return text if more <= 0 else f"{text}… ({more:,} more characters)"
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        kept = list(value.items())[:MAX_ITEMS]
        return {str(truncate(str(key))): truncate(item, depth + 1) for key, item in kept}
    if isinstance(value, list | tuple):
        items = [truncate(item, depth + 1) for item in value[:MAX_ITEMS]]
        more = len(value) - MAX_ITEMS
        return items if more <= 0 else [*items, f"… ({more:,} more)"]
    if isinstance(value, bytes | bytearray):
        return f"{len(value):,} bytes"
    return truncate(str(value), depth)
