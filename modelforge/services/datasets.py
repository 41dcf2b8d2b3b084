"""The data questions: what is in a file, what is wrong with it, what the model will see of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.resolve import Layer, Resolved, resolve
from modelforge.config.schema.data import Source
from modelforge.data.checks.run import CheckResult, check_sources
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.repair.copy import RepairResult, repair_sources
from modelforge.data.sources.combine import RunData, combine_summaries
from modelforge.data.sources.library import (
    StoredDataset,
    delete_dataset,
    find_dataset,
    list_datasets,
)
from modelforge.data.sources.load import LoadedSource, load_sources
from modelforge.data.sources.locate import fetched_path
from modelforge.data.sources.preview import PreviewRow, preview_rows
from modelforge.data.sources.uploads import save_upload
from modelforge.errors import BusyError, Problem
from modelforge.paths import Home
from modelforge.runs.process.warm_worker import Spare
from modelforge.services.preflight import Inquiry

TOKENS_S = 120.0
LENGTHS_S = 300.0
FETCH_S = 3600.0
ROWS_MEASURED = 5000
GLIMPSED = 200
REMEMBERED = 8
# English, as most tokenizers cut it; the tokens themselves are the worker's to count.
CHARS_A_TOKEN = 4
Progress = Callable[[Any], None]


class DataDesk:
    """Answers about data, for one home folder. Safe to call from several threads.

    `in_use` says which run, if any, still reads a file.
    """

    def __init__(
        self, home: Home, inquiry: Inquiry, spare: Spare, in_use: Callable[[Path], str | None]
    ) -> None:
        self._home = home
        self._inquiry = inquiry
        self._spare = spare
        self._in_use = in_use
        self._diagnoses: dict[object, list[CheckResult]] = {}
        self._lock = threading.Lock()

    # What there is

    def datasets(self) -> list[StoredDataset]:
        """Return the data sets at hand: uploads, fetched ones and samples."""
        return list_datasets(self._home)

    def find(self, name: str) -> StoredDataset:
        """Return one data set at hand; raises NotFoundError."""
        return find_dataset(name, self._home)

    def upload(self, filename: str, chunks: Iterable[bytes], limit_bytes: int) -> Path:
        """Keep a data file that came through a face; return where it lies."""
        return save_upload(self._home, filename, chunks, limit_bytes)

    def delete(self, name: str) -> None:
        """Delete an upload or a fetched data set; raises BusyError while a run reads it."""
        holder = self._in_use(self.find(name).path)
        if holder:
            what = f"{name} is being trained on by {holder}."
            raise BusyError(Problem("dataset", what, "Delete it when that run is over."), holder)
        delete_dataset(name, self._home)

    # What is in it

    def sources(self, dataset: str, fields: Mapping[str, Any] | None = None) -> list[Source]:
        """Return the sources that a path and the fields of `data.sources` come to.

        Raises ConfigError with every problem of the fields.
        """
        said = [{**(fields or {}), "path": dataset}]
        return resolve(*self.layers(dataset, Layer("you", {"data.sources": said}))).config.sources()

    def layers(self, dataset: str, *more: Layer) -> tuple[Layer, ...]:
        """Return `more` over what a question about data need not say: model, task and profile."""
        usual = {
            "task": "text-generation",
            "model_name": "starter",
            "dataset": dataset,
            "compute_specs": "low_end",
        }
        return Layer("usual", usual), *more

    def supplies(self, sources: Sequence[Source]) -> list[LoadedSource]:
        """Return the sources opened: their files, how rows are read, and the first look."""
        return self._inquiry.supplies(sources)

    def look(self, sources: Sequence[Source]) -> DatasetSummary:
        """Return the first look at all sources, as one."""
        supplies = self.supplies(sources)
        return combine_summaries(
            [each.summary for each in supplies], [each.rows for each in supplies]
        )

    def glimpse(self, sources: Sequence[Source]) -> DatasetSummary:
        """Return a look at the first rows alone, whatever the size of the files."""
        supplies = load_sources(sources, self._home, GLIMPSED)
        return combine_summaries([each.summary for each in supplies])

    def preview(
        self, sources: Sequence[Source], *, first: int = 20, after: int = 0
    ) -> dict[str, Any]:
        """Return rows as they stand in the files and as they are read, long texts shortened."""
        supplies = load_sources(sources, self._home, max(GLIMPSED, after + first))
        rows: Iterable[PreviewRow] = islice(preview_rows(supplies), after, after + first)
        return {
            "mapping": supplies[0].mapping.as_dict(),
            "columns": combine_summaries([each.summary for each in supplies]).columns,
            "rows": [row.as_dict() for row in rows],
        }

    def examine(
        self,
        sources: Sequence[Source],
        validation: Sequence[Source] = (),
        max_length: int | None = None,
    ) -> list[CheckResult]:
        """Return what is wrong with every file, row by row; remembered until a file changes.

        Rows that stand in `validation` as well are found, and those that are surely longer than
        `max_length` tokens, at four characters a token. A file that cannot be read is a finding;
        raises NotFoundError where there is none.
        """
        key = (self._inquiry.stamps(sources), self._inquiry.stamps(validation), max_length)
        with self._lock:
            known = self._diagnoses.get(key)
        if known is None:
            longest = max_length * CHARS_A_TOKEN if max_length else None
            known = check_sources(sources, self._home, validation, longest)
            with self._lock:
                while len(self._diagnoses) >= REMEMBERED:
                    self._diagnoses.pop(next(iter(self._diagnoses)))
                self._diagnoses[key] = known
        return known

    def repair(
        self, sources: Sequence[Source], codes: Sequence[str] | None = None
    ) -> list[RepairResult]:
        """Write repaired copies, never touching the originals, and tell what changed in them.

        `codes` are the findings to mend; without them all that are no notes. Raises DataError
        where nothing can be repaired.
        """
        return repair_sources(sources, codes, self._home)

    # What the model sees of it

    def tokens(
        self, *layers: Layer, row: int = 0, count: int = 1, source: int | None = None
    ) -> dict[str, Any]:
        """Return rows as the collator will see them, by the code that trains.

        `row` counts from 0 in that source, or without one in all rows the run is given. Raises as
        a check does; BusyError or RunError when no worker can be had.
        """
        resolved, plan, material = self._inquiry.readied(*layers)
        if source is None:
            source, row = material.locate_row(row)
        asked = {"row": row, "count": count, "source": source}
        return self._spare.ask(_probe("tokens", resolved, plan, material) | asked, TOKENS_S)

    def lengths(
        self, *layers: Layer, most: int = ROWS_MEASURED, on_progress: Progress | None = None
    ) -> dict[str, Any]:
        """Return tokens per row as a histogram, the share cut and the share trained."""
        probe = _probe("lengths", *self._inquiry.readied(*layers)) | {"most": most}
        return self._spare.ask(probe, LENGTHS_S, on_progress)

    def fetch(
        self,
        name: str,
        *,
        subset: str | None = None,
        split: str | None = None,
        on_progress: Progress | None = None,
    ) -> StoredDataset:
        """Fetch a data set of the Hub into the home; raises in words what stands against it."""
        target = fetched_path(self._home, name, subset, split)
        probe = {
            "kind": "fetch",
            "name": name,
            "subset": subset,
            "split": split or "train",
            "target": str(target),
        }
        self._spare.ask(probe, FETCH_S, on_progress)
        return self.find(target.name)


def _probe(kind: str, resolved: Resolved, plan: Plan, material: RunData) -> dict[str, Any]:
    return {
        "kind": kind,
        "config": resolved.config.explicit_values(),
        "plan": plan.as_dict(),
        "dataset": material.as_record(),
    }
