"""Load sources: find their files, detect how rows are read, iterate the rows of a run, preview."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import Canonical, read_canonical, to_canonical
from modelforge.data.canonical.messages import UnusableRowError
from modelforge.data.checks.parallel import CountCache
from modelforge.data.checks.summary import DatasetSummary, summarize
from modelforge.data.columns.joined import join_options
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.formats.options import ReadOptions
from modelforge.data.formats.read import read_rows
from modelforge.data.sources.locate import find_source_files, unread_texts
from modelforge.errors import Finding, ForgeError, caution, merge_errors
from modelforge.paths import Home

Record = dict[str, Any]
MAX_TEXT_CHARS = 2_000
MAX_ITEMS = 100
MAX_DEPTH = 8


@dataclass(frozen=True)
class LoadedSource:
    """A source with its files, how they are read, and their summary."""

    source: Source
    files: list[Path]
    mapping: ColumnMapping
    summary: DatasetSummary

    @property
    def rows(self) -> int:
        """The number of rows it gives a run, after samples and weight."""
        return count_rows_taken(self.summary.rows, self.source.samples, self.source.weight)

    def canonical_rows(self) -> Iterator[Canonical]:
        """Yield the usable rows of all files."""
        for path in self.files:
            yield from read_canonical(path, self.mapping, ReadOptions.of(self.source))

    def as_entry(self) -> Record:
        """Return its entry in a run's record."""
        return {
            "files": [str(path) for path in self.files],
            "sha256": self.summary.sha256,
            "rows": self.summary.rows,
            "mapping": self.mapping.as_dict(),
            "encoding": self.source.encoding,
            "weight": self.source.weight,
            "samples": self.source.samples,
            "source": self.source.model_dump(mode="json", exclude_unset=True),
        }


def load_sources(
    sources: Sequence[Source],
    home: Home,
    limit: int | None = None,
    cache: CountCache | None = None,
) -> list[LoadedSource]:
    """Return every source with its files and summary.

    Raises an error with the problems of all sources.

    `limit` is the number of rows to read of each source, all if None.
    """
    loaded: list[LoadedSource] = []
    errors: list[ForgeError] = []
    for source in sources:
        try:
            files = find_source_files(source, home)
            summary = summarize(files, limit, source, cache)
            findings = [*summary.findings, *_unread(source, files)]
            summary = replace(summary, findings=findings)
            loaded.append(LoadedSource(source, files, summary.mapping, summary))
        except ForgeError as error:
            errors.append(error)
    if errors:
        raise merge_errors(errors)
    return loaded


def _unread(source: Source, files: Sequence[Path]) -> Iterator[Finding]:
    """Report texts of a folder that are not read beside its tables."""
    texts = unread_texts(source, files)
    if texts:
        names = ", ".join(path.name for path in texts[:3])
        count = f"{len(texts)} text files" if len(texts) > 1 else "A text file"
        more = " and others" if len(texts) > 3 else ""
        what = f"{count} of {Path(source.path).name} will not be read, as it has tables: "
        remedy = "Add each text as a source of its own, or keep them in another folder."
        yield caution("texts-unread", f"{what}{names}{more}.", remedy, where="dataset")


def dataset_record(
    sources: Sequence[LoadedSource], validation: Sequence[LoadedSource] = ()
) -> Record:
    """Return the dataset entry of a run's record."""
    return {
        "sources": [source.as_entry() for source in sources],
        "validation": [source.as_entry() for source in validation],
    }


def source_entries(record: Record, part: str = "sources") -> list[Record]:
    """Return the `sources` or `validation` entries of a run's record, also of an old one."""
    if "path" not in record:
        return list(record.get(part, []))
    if part == "validation":
        return []
    entry = {name: record.get(name) for name in ("sha256", "rows", "mapping")}
    return [{"files": [record["path"]], **entry}]


def iterate_rows(
    record: Record, seed: int, part: str = "sources"
) -> Iterator[tuple[int, Canonical]]:
    """Yield each row of a run with the index of its source, one source after the other.

    Samples and weights are drawn with the seed: the same record and seed give the same rows.
    """
    for index, entry in enumerate(source_entries(record, part)):
        mapping = ColumnMapping.from_dict(entry["mapping"])
        copies = copies_per_row(
            entry["rows"], entry.get("samples"), entry.get("weight", 1.0), seed, index
        )
        number = 0
        for file in entry["files"]:
            for row in read_canonical(Path(file), mapping, ReadOptions.of_entry(entry)):
                for _ in range(copies(number)):
                    yield index, row
                number += 1


def count_rows_taken(rows: int, samples: int | None, weight: float) -> int:
    """Return the number of rows that a source gives, including copies.

    `samples` takes that many rows, drawn evenly from all usable rows; the order of the file stays.
    The whole part of `weight` repeats every row, and its fraction is the share of rows that come
    once more (2: every row twice, 0.5: half of the rows, 1.25: all rows and a quarter of them
    again). At least one row is left. The share of a source in the data is its number of rows after
    both.
    """
    taken = min(rows, samples) if samples else rows
    repeats, extra = _repeats(taken, weight)
    return taken * repeats + extra


def copies_per_row(
    rows: int, samples: int | None, weight: float, seed: int, source_index: int
) -> Callable[[int], int]:
    """Return a function from the index of a usable row to its number of copies.

    `source_index` makes sources with the same seed draw different rows.
    """
    if (samples is None or samples >= rows) and weight == 1:
        return lambda _index: 1
    draw = random.Random(f"{seed}:{source_index}")
    taken: Sequence[int] = range(rows)
    if samples and samples < rows:
        taken = draw.sample(taken, samples)
    repeats, extra = _repeats(len(taken), weight)
    once_more = frozenset(draw.sample(taken, extra))
    members = frozenset(taken) if len(taken) < rows else range(rows)

    def copies(index: int) -> int:
        if index not in members:
            return 0
        return repeats + 1 if index in once_more else repeats

    return copies


def _repeats(rows: int, weight: float) -> tuple[int, int]:
    """Return how often every row is repeated, and how many rows come once more."""
    repeats = int(weight)
    extra = round(rows * (weight - repeats))
    if repeats == 0 and rows:
        extra = max(1, extra)
    return repeats, extra


def preview_rows(sources: Iterable[LoadedSource]) -> Iterator[dict[str, Any]]:
    """Yield the rows of all sources in the order of their files; raises ReadError as reading.

    A row has `file`, `line`, `raw` as written, `reads` in canonical form or None, and `why`, the
    code if it is unusable.
    """
    for loaded in sources:
        join = join_options(loaded.source)
        for path in loaded.files:
            for line, data in read_rows(path, options=ReadOptions.of(loaded.source), join=join):
                reads, why = None, ""
                try:
                    reads = to_canonical(data, loaded.mapping)
                except UnusableRowError as error:
                    why = error.code
                raw = truncate(data)
                row = {"file": path.name, "line": line, "raw": raw, "reads": truncate(reads)}
                yield row | {"why": why}


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
