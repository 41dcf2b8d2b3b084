"""Several sources as one: what a run learns from, and what it is checked on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.sources.load import LoadedSource, dataset_record, source_entries
from modelforge.data.sources.split import split_counts
from modelforge.errors import Finding


@dataclass(frozen=True)
class RunData:
    """The data of one run: `supplies` to learn from, `validation` only to check on."""

    sources: Sequence[LoadedSource] = ()
    validation: Sequence[LoadedSource] = ()
    several: bool = False

    @property
    def summary(self) -> DatasetSummary:
        """Return what is learned from, as one look."""
        looks = [supply.summary for supply in self.sources]
        return combine_summaries(looks, [supply.rows for supply in self.sources])

    def train_rows(self, eval_split: float) -> int:
        """Return how many rows are trained on; raises DataError when the split is impossible."""
        if self.validation:
            return self.summary.rows
        return split_counts(self.summary.rows, eval_split)[0]

    def labelled_completions(self, rows: int) -> int:
        """Return how many judged answers so many rows give: a pair is a good and a bad one."""
        pairs = sum(each.rows for each in self.sources if each.mapping.kind == "preference")
        return rows + round(rows * pairs / max(1, self.summary.rows))

    def locate_row(self, row: int) -> tuple[int, int]:
        """Return the source in which a row of all that the run is given stands, and its place."""
        last = len(self.sources) - 1
        for place, supply in enumerate(self.sources):
            if row < supply.rows or place == last:
                return place, row
            row -= supply.rows
        return 0, row

    def as_record(self) -> dict[str, Any]:
        """Return what a run keeps of its data, with the number of rows it learns from."""
        return {**dataset_record(self.sources, self.validation), "rows": self.summary.rows}

    def where(self, number: int, *, validation: bool = False) -> str:
        """Return the setting that names a supply, as findings say it."""
        if validation:
            return f"data.validation_sources[{number}]"
        return f"data.sources[{number}]" if self.several else "dataset"


def files_in_record(record: dict[str, Any]) -> set[Path]:
    """Return every file that a run's record of its data names."""
    parts = [*source_entries(record), *source_entries(record, "validation")]
    return {Path(file) for entry in parts for file in entry["files"]}


def combine_summaries(
    looks: Sequence[DatasetSummary], rows: Sequence[int] | None = None
) -> DatasetSummary:
    """Return several looks as one; `rows` says how many rows of each are taken.

    Of several, the mapping and the examples are those of the first, findings name their file.
    """
    first = looks[0]
    counts = list(rows) if rows is not None else [each.rows for each in looks]
    if len(looks) == 1:
        return first if counts[0] == first.rows else replace(first, rows=counts[0])
    total = sum(counts)
    chars = sum(each.mean_chars * count for each, count in zip(looks, counts, strict=True))
    return replace(
        first,
        name=f"{first.name} and {len(looks) - 1} more",
        rows=total,
        columns=list(dict.fromkeys(column for each in looks for column in each.columns)),
        findings=[_named(finding, each.name) for each in looks for finding in each.findings],
        mean_chars=round(chars / max(1, total), 1),
        longest_chars=max(each.longest_chars for each in looks),
        skipped=sum(each.skipped for each in looks),
        size_bytes=sum(each.size_bytes for each in looks),
    )


def _named(finding: Finding, name: str) -> Finding:
    return replace(finding, what=f"{name}: {finding.what}")
