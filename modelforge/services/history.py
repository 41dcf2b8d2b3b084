"""List, search, annotate, compare and export runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.runs.index import Index
from modelforge.runs.listing import TRIAL, RunFilter, RunPage, RunRow
from modelforge.runs.notes import read_notes, updated_notes
from modelforge.runs.progress.metrics import RunMetrics, read_metrics
from modelforge.runs.states import RunState
from modelforge.runs.store import Store
from modelforge.runs.view import view_run
from modelforge.services.cache import Cache, file_stamp
from modelforge.services.compare import Comparison, compare_runs
from modelforge.services.export_history import comparison_page, csv_chunks

CACHE_SIZE = 32
MAX_COMPARED = 8


class HistoryService:
    """The runs of a home as a table. Thread-safe."""

    def __init__(self, index: Index, store: Store) -> None:
        self._store = store
        self.annotate = store.annotate
        self.index = index
        self._selected: Cache[tuple[int, RunFilter], list[RunRow]] = Cache(CACHE_SIZE)
        self._settled_counts: Cache[int, tuple[Counter[str], Counter[str]]] = Cache(1)
        self._search_texts: Cache[int, list[str]] = Cache(1)
        self._curves: Cache[tuple[str, tuple[int, int]], RunMetrics] = Cache(MAX_COMPARED)

    def page(
        self,
        filters: RunFilter | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        before: str | None = None,
    ) -> RunPage:
        """Return `limit` runs that match, newest first, after the first `offset`.

        With `before` the runs after that one in the list; raises NotFoundError if it is not in
        the list, ConfigError for negative bounds.
        """
        if offset < 0 or (limit is not None and limit < 0):
            what = "limit and offset must not be negative."
            raise ConfigError(Problem("limit", what, "Use 0 or more."))
        version, settled, moving = self.index.rows()
        rows = self._ordered(version, settled, moving, filters or RunFilter())
        if before is not None:
            offset = 1 + _position(before, rows)
        states, tags = self._counts(version, settled, moving)
        end = None if limit is None else offset + limit
        return RunPage(rows[offset:end], len(rows), len(settled) + len(moving), states, tags)

    def row(self, run_id: str) -> RunRow:
        """Return the row of one run; raises NotFoundError."""
        self._store.get(run_id)
        row = self.index.row(run_id)
        if row is None:
            raise NotFoundError(Problem("run", f"{run_id} cannot be read.", "Delete it."))
        return row

    def tag(self, run_ids: Sequence[str], tags: Sequence[str]) -> None:
        """Add tags to runs: to all, or to none if one of them would exceed a limit."""
        current = {run_id: read_notes(self._store.get(run_id)) for run_id in run_ids}
        for notes in current.values():
            updated_notes(notes, tags=[*notes.tags, *tags])
        for run_id, notes in current.items():
            self._store.annotate(run_id, tags=[*notes.tags, *tags])

    def curves(self, run_id: str) -> RunMetrics:
        """Return the metrics of a run, cached until it writes more events."""
        path = self._store.get(run_id).events
        return self._curves.get((run_id, file_stamp(path)), lambda: read_metrics(path))

    def compare(self, run_ids: Sequence[str]) -> Comparison:
        """Return a comparison of two to eight runs, in the order given.

        Raises ConfigError for another number or for duplicates, NotFoundError, and RunError for
        a damaged record.
        """
        if not 2 <= len(run_ids) <= MAX_COMPARED or len(set(run_ids)) < len(run_ids):
            count = len(set(run_ids))
            what = f"{count} {'run was' if count == 1 else 'different runs were'} given."
            remedy = f"Choose from 2 to {MAX_COMPARED}, each once."
            raise ConfigError(Problem("runs", what, remedy))
        folders = [self._store.get(run_id) for run_id in run_ids]
        rows = [self.row(run_id) for run_id in run_ids]
        views = [
            view_run(folder, RunState(row.state)) for folder, row in zip(folders, rows, strict=True)
        ]
        return compare_runs(folders, views, rows, [self.curves(run_id) for run_id in run_ids])

    def export_csv(self, run_ids: Sequence[str]) -> Iterator[str]:
        """Yield all metrics of runs as CSV, in chunks; raises NotFoundError."""
        runs = [(row.id, row.name, self.curves(row.id)) for row in map(self.row, run_ids)]
        return csv_chunks(runs)

    def export_html(self, run_ids: Sequence[str]) -> str:
        """Return a comparison as one self-contained HTML file; raises what `compare` raises."""
        return comparison_page(self.compare(run_ids), time.time())

    def _ordered(
        self, version: int, settled: list[RunRow], moving: list[RunRow], filters: RunFilter
    ) -> list[RunRow]:
        def select() -> list[RunRow]:
            texts = self._search_texts.get(version, lambda: [row.search_text for row in settled])
            matching = filters.matching(settled, texts if filters.query else None)
            return filters.in_order(matching, newest_first=True)

        known = self._selected.get((version, filters), select)
        return filters.in_order([*known, *filters.matching(moving)]) if moving else known

    def _counts(
        self, version: int, settled: list[RunRow], moving: list[RunRow]
    ) -> tuple[Counter[str], Counter[str]]:
        states, tags = self._settled_counts.get(version, lambda: _count(settled))
        more_states, more_tags = _count(moving)
        return states + more_states, tags + more_tags


def _count(rows: Iterable[RunRow]) -> tuple[Counter[str], Counter[str]]:
    states: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    for row in rows:
        states[TRIAL if row.is_trial else row.state] += 1
        tags.update(row.tags)
    return states, tags


def _position(run_id: str, rows: list[RunRow]) -> int:
    for position, row in enumerate(rows):
        if row.id == run_id:
            return position
    what = f"The run {run_id[:80]!r} is not in this list."
    raise NotFoundError(Problem("before", what, "Ask for the first page again."))
