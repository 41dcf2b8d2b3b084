"""Rows beside what training reads of them, shortened so that no row is too long to be shown."""

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
    """One row: `raw` as it stands in the file, `reads` as training has it, or `why` it cannot."""

    file: str
    line: int
    raw: dict[str, Any]
    reads: dict[str, Any] | None
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return asdict(self)


def preview_rows(supplies: Iterable[LoadedSource]) -> Iterator[PreviewRow]:
    """Yield the rows of all supplies in the order of their files; raises DataError as reading."""
    for supply in supplies:
        for path in supply.files:
            for line, data in read_rows(path):
                reads, why = None, ""
                try:
                    reads = to_canonical(data, supply.mapping)
                except UnusableRowError as unusable:
                    why = unusable.code
                yield PreviewRow(path.name, line, truncate(data), truncate(reads), why)


def truncate(value: Any, depth: int = 0) -> Any:
    """Return `value` as JSON can hold it: long texts and lists end in a mark that says so."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        # A lone surrogate cannot be sent to anybody.
        text = value[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode()
        more = len(value) - MAX_TEXT_CHARS
        return text if more <= 0 else f"{text}… ({more:,} more characters)"
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        kept = list(value.items())[:MAX_ITEMS]
        return {str(truncate(str(key))): truncate(each, depth + 1) for key, each in kept}
    if isinstance(value, list | tuple):
        told = [truncate(each, depth + 1) for each in value[:MAX_ITEMS]]
        more = len(value) - MAX_ITEMS
        return told if more <= 0 else [*told, f"… ({more:,} more)"]
    if isinstance(value, bytes | bytearray):
        return f"{len(value):,} bytes"
    return truncate(str(value), depth)
