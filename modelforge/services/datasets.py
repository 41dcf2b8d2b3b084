"""Inspect, check, repair, preview and fetch datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from modelforge.config.resolve import Layer, resolve
from modelforge.config.rules.data import address_problem
from modelforge.config.schema.data import Source
from modelforge.data.checks.run import CheckResult, check_sources
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.repair.copy import RepairResult, repair_sources
from modelforge.data.repair.edit import RowEdits, StoredRow, edit_sources, find_rows
from modelforge.data.sources.combine import combine_summaries
from modelforge.data.sources.library import (
    StoredDataset,
    delete_dataset,
    find_dataset,
    list_datasets,
)
from modelforge.data.sources.load import LoadedSource, load_sources, preview_rows
from modelforge.data.sources.locate import fetched_path
from modelforge.data.sources.remote import RemotePath, remote_path
from modelforge.data.sources.uploads import save_upload
from modelforge.errors import ConfigError
from modelforge.paths import Home
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.runs.run_uses import RunUses
from modelforge.services.cache import Cache
from modelforge.services.preflight import PreflightService

TOKENS_TIMEOUT_S = 90.0
LENGTHS_TIMEOUT_S = 300.0
FETCH_TIMEOUT_S = 3600.0
ROWS_MEASURED = 5000
HEAD_ROWS = 200
CACHE_SIZE = 8
# Typical for English text.
CHARS_PER_TOKEN = 4
Progress = Callable[[Any], None]


class DatasetService:
    """The datasets of a home. Thread-safe."""

    def __init__(
        self,
        home: Home,
        preflight: PreflightService,
        warm_worker: WarmWorker,
        uses: RunUses,
    ) -> None:
        self._home = home
        self._preflight = preflight
        self._warm_worker = warm_worker
        self._uses = uses
        self._checked: Cache[object, list[CheckResult]] = Cache(CACHE_SIZE)

    # Available datasets

    def available(self) -> list[StoredDataset]:
        """Return the available datasets: uploads, fetched datasets and samples."""
        return list_datasets(self._home)

    def find(self, name: str) -> StoredDataset:
        """Return one available dataset; raises NotFoundError."""
        return find_dataset(name, self._home)

    def upload(self, filename: str, chunks: Iterable[bytes], limit_bytes: int) -> Path:
        """Save an uploaded data file and return its path."""
        return save_upload(self._home, filename, chunks, limit_bytes)

    def delete(self, name: str) -> None:
        """Delete an upload or a fetched dataset; raises BusyError while a run needs it."""
        path, uses = self.find(name).path, self._uses.read().files
        runs = [run for file, runs in uses.items() if file.is_relative_to(path) for run in runs]
        self._uses.require_unneeded(name, list(dict.fromkeys(runs)))
        delete_dataset(name, self._home)

    def fetch(
        self,
        name: str,
        *,
        subset: str | None = None,
        split: str | None = None,
        on_progress: Progress | None = None,
    ) -> StoredDataset:
        """Download a dataset of the Hub, or of an address s3:// or gs://, into the home.

        Raises DataError or RunError, and ConfigError for an invalid address.
        """
        if problem := address_problem(name):
            raise ConfigError(problem)
        if remote := remote_path(name):
            return self._fetch_remote(remote, on_progress)
        target = fetched_path(self._home, name, subset, split)
        probe = {
            "kind": "fetch",
            "name": name,
            "subset": subset,
            "split": split or "train",
            "target": str(target),
        }
        self._warm_worker.ask(probe, FETCH_TIMEOUT_S, on_progress)
        return self.find(target.name)

    def _fetch_remote(self, remote: RemotePath, on_progress: Progress | None) -> StoredDataset:
        target = remote.copy_in(self._home)
        probe = {"kind": "fetch_remote", "address": str(remote), "target": str(target)}
        self._warm_worker.ask(probe, FETCH_TIMEOUT_S, on_progress)
        return self.find(target.name)

    # Contents

    def parse_sources(self, dataset: str, fields: Mapping[str, Any] | None = None) -> list[Source]:
        """Return the sources for a path and the fields of one entry of `data.sources`.

        Raises ConfigError with every problem of the fields.
        """
        layer = Layer("you", {"data.sources": [{**(fields or {}), "path": dataset}]})
        return resolve(*self.layers(dataset, layer)).config.sources()

    def layers(self, dataset: str, *more: Layer) -> tuple[Layer, ...]:
        """Return `more` above default values for model, task and profile."""
        defaults = {
            "task": "text-generation",
            "model_name": "starter",
            "dataset": dataset,
            "compute_specs": "low_end",
        }
        return Layer("usual", defaults), *more

    def load_sources(self, sources: Sequence[Source]) -> list[LoadedSource]:
        """Return the opened sources: their files, column mappings and summaries."""
        return self._preflight.load_sources(sources)

    def summarize(self, sources: Sequence[Source]) -> DatasetSummary:
        """Return one summary of all sources."""
        loaded = self.load_sources(sources)
        return combine_summaries([each.summary for each in loaded], [each.rows for each in loaded])

    def summarize_head(self, sources: Sequence[Source]) -> DatasetSummary:
        """Return a summary of the first rows only, which is fast for files of any size."""
        loaded = load_sources(sources, self._home, HEAD_ROWS)
        return combine_summaries([each.summary for each in loaded])

    def preview(
        self, sources: Sequence[Source], *, first: int = 20, after: int = 0
    ) -> dict[str, Any]:
        """Return rows as stored and as read, with long texts shortened."""
        loaded = load_sources(sources, self._home, max(HEAD_ROWS, after + first))
        return {
            "mapping": loaded[0].mapping.as_dict(),
            "columns": combine_summaries([each.summary for each in loaded]).columns,
            "rows": list(islice(preview_rows(loaded), after, after + first)),
        }

    def check(
        self,
        sources: Sequence[Source],
        validation: Sequence[Source] = (),
        max_length: int | None = None,
    ) -> list[CheckResult]:
        """Return the findings of every file, cached until a file changes.

        Finds rows that `validation` holds as well, and rows longer than `max_length` tokens at
        four characters per token. An unreadable file is a finding; raises NotFoundError for a
        missing one.
        """
        stamps = self._preflight.source_stamps
        key = (stamps(sources), stamps(validation), max_length)
        max_chars = max_length * CHARS_PER_TOKEN if max_length else None
        return self._checked.get(
            key,
            lambda: check_sources(
                sources, self._home, validation, max_chars, self._preflight.count_cache
            ),
        )

    def repair(
        self,
        sources: Sequence[Source],
        codes: Sequence[str] | None = None,
        *,
        allow_removal: bool = False,
    ) -> list[RepairResult]:
        """Write repaired copies of the files and return the changes; originals are not changed.

        `codes` are the findings to repair; by default all except notes. Raises DataError if
        nothing can be repaired, RemovalError if more than 2 % of the rows would be removed without
        `allow_removal`.
        """
        return repair_sources(sources, codes, self._home, allow_removal=allow_removal)

    def rows(self, sources: Sequence[Source], numbers: Iterable[int], seed: int) -> list[StoredRow]:
        """Return rows by their numbers, counted from 1 over all sources as a run reads them.

        Raises NotFoundError for a number that no row has.
        """
        found = find_rows(self.load_sources(sources), seed, numbers)
        return [found[number] for number in sorted(found)]

    def edit_rows(self, sources: Sequence[Source], edits: RowEdits, seed: int) -> list[list[str]]:
        """Write copies of the files with rows left out or changed; return the files of each source.

        Files without such rows keep their path. Raises what `edit_sources` raises.
        """
        return edit_sources(self.load_sources(sources), self._home, edits, seed)

    # Tokens

    def tokens(
        self, *layers: Layer, row: int = 0, count: int = 1, source: int | None = None
    ) -> dict[str, Any]:
        """Return rows as the collator produces them, computed with the training code.

        `row` counts from 0 in the source, or in all training rows if `source` is None. Raises
        what a check raises; BusyError or RunError when no worker is available.
        """
        checked = self._preflight.check(*layers)
        probe = checked.probe("tokens")
        if source is None and checked.data:
            source, row = checked.data.locate_row(row)
        place = {"row": row, "count": count, "source": source}
        return self._warm_worker.ask(probe | place, TOKENS_TIMEOUT_S)

    def lengths(
        self, *layers: Layer, rows: int = ROWS_MEASURED, on_progress: Progress | None = None
    ) -> dict[str, Any]:
        """Return a histogram of tokens per row, and the shares truncated and trained on."""
        probe = self._preflight.check(*layers).probe("lengths") | {"most": rows}
        return self._warm_worker.ask(probe, LENGTHS_TIMEOUT_S, on_progress)
