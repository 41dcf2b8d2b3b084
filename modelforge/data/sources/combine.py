"""Combine several sources to the data of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.sources.load import LoadedSource, dataset_record, source_entries
from modelforge.data.sources.split import split_counts


@dataclass(frozen=True)
class RunData:
    """The data of one run: `sources` to train on, `validation` only to evaluate on.

    Args:
        several: whether the sources come from `data.sources` and not from `dataset`.
    """

    sources: Sequence[LoadedSource] = ()
    validation: Sequence[LoadedSource] = ()
    several: bool = False

    @property
    def summary(self) -> DatasetSummary:
        """The combined summary of the training sources."""
        return combine_summaries(
            [source.summary for source in self.sources], [source.rows for source in self.sources]
        )

    def train_rows(self, eval_split: float) -> int:
        """Return the number of training rows; raises DataError if the split is impossible."""
        if self.validation:
            return self.summary.rows
        return split_counts(self.summary.rows, eval_split)[0]

    def labelled_completions(self, rows: int) -> int:
        """Return how many labelled completions `rows` rows give; a pair gives two."""
        pairs = sum(source.rows for source in self.sources if source.mapping.kind == "preference")
        return rows + round(rows * pairs / max(1, self.summary.rows))

    def locate_row(self, row: int) -> tuple[int, int]:
        """Return the index of the source that holds a row of the run, and the row's index in it."""
        for index, source in enumerate(self.sources):
            if row < source.rows or index == len(self.sources) - 1:
                return index, row
            row -= source.rows
        return 0, row

    def as_record(self) -> dict[str, Any]:
        """Return the dataset entry of a run's record, with the number of training rows."""
        return {**dataset_record(self.sources, self.validation), "rows": self.summary.rows}

    def where(self, index: int, *, validation: bool = False) -> str:
        """Return the setting of a source, as used in findings."""
        if validation:
            return f"data.validation_sources[{index}]"
        return f"data.sources[{index}]" if self.several else "dataset"


def files_in_record(record: dict[str, Any]) -> set[Path]:
    """Return every data file that a run's record names."""
    entries = [*source_entries(record), *source_entries(record, "validation")]
    return {Path(file) for entry in entries for file in entry["files"]}


def combine_summaries(
    summaries: Sequence[DatasetSummary], rows: Sequence[int] | None = None
) -> DatasetSummary:
    """Return several summaries as one, with mapping and examples of the first.

    `rows` is the number of rows used of each, all if None.
    """
    first = summaries[0]
    counts = list(rows) if rows is not None else [summary.rows for summary in summaries]
    if len(summaries) == 1:
        return first if counts[0] == first.rows else replace(first, rows=counts[0])
    total = sum(counts)
    chars = sum(
        summary.mean_chars * count for summary, count in zip(summaries, counts, strict=True)
    )
    encodings = dict.fromkeys(summary.encoding for summary in summaries if summary.encoding)
    return replace(
        first,
        name=f"{first.name} and {len(summaries) - 1} more",
        rows=total,
        columns=list(dict.fromkeys(column for each in summaries for column in each.columns)),
        findings=[
            replace(finding, what=f"{each.name}: {finding.what}")
            for each in summaries
            for finding in each.findings
        ],
        mean_chars=round(chars / max(1, total), 1),
        longest_chars=max(summary.longest_chars for summary in summaries),
        skipped=sum(summary.skipped for summary in summaries),
        size_bytes=sum(summary.size_bytes for summary in summaries),
        encoding=", ".join(encodings),
    )
