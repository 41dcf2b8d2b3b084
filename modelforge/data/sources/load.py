"""Sources to rows: where they lie, how they are read, and which rows a run is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelforge.config.schema.data import Source
from modelforge.data.canonical.convert import Canonical, read_canonical
from modelforge.data.checks.summary import DatasetSummary, summarize
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.sources.locate import find_source_files
from modelforge.data.sources.mixing import copies_per_row, count_rows_taken
from modelforge.errors import ForgeError, merge_errors
from modelforge.paths import Home

Record = dict[str, Any]


@dataclass(frozen=True)
class LoadedSource:
    """One source as it was found: its files, how they are read, and the first look at them."""

    source: Source
    files: list[Path]
    mapping: ColumnMapping
    summary: DatasetSummary

    @property
    def rows(self) -> int:
        """How many rows it gives a run, after samples and weight."""
        return count_rows_taken(self.summary.rows, self.source.samples, self.source.weight)

    def as_entry(self) -> Record:
        """Return what a run keeps of it."""
        return {
            "files": [str(path) for path in self.files],
            "sha256": self.summary.sha256,
            "rows": self.summary.rows,
            "mapping": self.mapping.as_dict(),
            "weight": self.source.weight,
            "samples": self.source.samples,
            "source": self.source.model_dump(mode="json", exclude_unset=True),
        }


def load_sources(
    sources: Sequence[Source], home: Home, limit: int | None = None
) -> list[LoadedSource]:
    """Return every source found and looked at; `limit` ends each look after so many rows.

    Raises the first error with the problems of all sources.
    """
    supplies: list[LoadedSource] = []
    errors: list[ForgeError] = []
    for source in sources:
        try:
            files = find_source_files(source, home)
            seen = summarize(files, limit, source)
            supplies.append(LoadedSource(source, files, seen.mapping, seen))
        except ForgeError as error:
            errors.append(error)
    if errors:
        raise merge_errors(errors)
    return supplies


def dataset_record(
    supplies: Sequence[LoadedSource], validation: Sequence[LoadedSource] = ()
) -> Record:
    """Return the dataset entry of a run's record."""
    return {
        "sources": [supply.as_entry() for supply in supplies],
        "validation": [supply.as_entry() for supply in validation],
    }


def source_entries(record: Record, part: str = "sources") -> list[Record]:
    """Return what a run's record says of its sources, or of its `validation`; old ones too."""
    if "path" in record:
        if part == "validation":
            return []
        return [
            {
                "files": [record["path"]],
                "sha256": record.get("sha256"),
                "rows": record["rows"],
                "mapping": record["mapping"],
            }
        ]
    return list(record.get(part, []))


def iterate_rows(
    record: Record, seed: int, part: str = "sources"
) -> Iterator[tuple[int, Canonical]]:
    """Yield each row a run is given with the number of its source, one source after the other.

    Samples and weights are drawn with the seed: the same record and seed give the same rows.
    """
    for place, entry in enumerate(source_entries(record, part)):
        mapping = ColumnMapping.from_dict(entry["mapping"])
        times = copies_per_row(
            entry["rows"], entry.get("samples"), entry.get("weight", 1.0), seed, place
        )
        number = 0
        for file in entry["files"]:
            for row in read_canonical(Path(file), mapping):
                for _ in range(times(number)):
                    yield place, row
                number += 1
