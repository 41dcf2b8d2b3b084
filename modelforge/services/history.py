"""What has been: runs listed, searched, named and compared, and what they take on the disk."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.runs.index import Index
from modelforge.runs.listing import Page, Row, Wanted
from modelforge.runs.metrics import RunMetrics, read_metrics
from modelforge.runs.states import RunState
from modelforge.runs.store import Store
from modelforge.runs.view import view_run
from modelforge.services.compare import Comparison, compare_runs
from modelforge.services.export_history import csv_of, page_of

REMEMBERED = 32
MOST_COMPARED = 8


class HistoryService:
    """The history of a home."""

    def __init__(self, index: Index, store: Store) -> None:
        self._store = store
        self.index = index
        self._chosen: dict[tuple[int, Wanted], list[Row]] = {}
        self._counted: tuple[int, Counter[str], Counter[str]] = (-1, Counter(), Counter())
        self._curves: dict[str, tuple[tuple[int, int], RunMetrics]] = {}
        self._lines: tuple[int, list[str]] = (-1, [])
        self._turn = threading.Lock()

    def page(
        self,
        wanted: Wanted | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        before: str | None = None,
    ) -> Page:
        """Return the runs that are wanted, newest first: `limit` of them after the first `offset`.

        With `before` those that come after that run in the list; raises NotFoundError where it is
        not in it, ConfigError for bounds that are none.
        """
        if offset < 0 or (limit is not None and limit < 0):
            what = "There is no page of that size, or at that place."
            raise ConfigError(Problem("limit", what, "Use 0 or more."))
        version, settled, moving = self.index.rows()
        rows = self._ordered(version, settled, moving, wanted or Wanted())
        if before is not None:
            offset = 1 + _place_of(before, rows)
        states, tags = self._counts(version, settled, moving)
        end = None if limit is None else offset + limit
        return Page(rows[offset:end], len(rows), len(settled) + len(moving), states, tags)

    def row(self, run_id: str) -> Row:
        """Return one run as a row; raises NotFoundError."""
        self._store.get(run_id)
        row = self.index.row(run_id)
        if row is None:
            raise NotFoundError(Problem("run", f"{run_id} cannot be read.", "Delete it."))
        return row

    def annotate(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        note: str | None = None,
    ) -> dict[str, Any]:
        """Name a run, tag it, or write a note to it; None leaves a part as it is.

        An empty name gives it back its first one. Raises NotFoundError, or ConfigError with
        everything that is too long or too many.
        """
        notes = self._store.annotate(run_id, name=name, tags=tags, note=note)
        return {"name": notes.name, "tags": list(notes.tags), "note": notes.note}

    def curves(self, run_id: str) -> RunMetrics:
        """Return what a run has measured; remembered until it measures more."""
        path = self._store.get(run_id).events
        try:
            stat = path.stat()
            mark = (stat.st_mtime_ns, stat.st_size)
        except OSError:
            mark = (0, 0)
        with self._turn:
            known = self._curves.get(run_id)
        if known is None or known[0] != mark:
            known = (mark, read_metrics(path))
            with self._turn:
                while len(self._curves) >= MOST_COMPARED:
                    self._curves.pop(next(iter(self._curves)))
                self._curves[run_id] = known
        return known[1]

    def compare(self, run_ids: Sequence[str]) -> Comparison:
        """Return two runs or more side by side, in the order given.

        Raises ConfigError for fewer, more than eight or one twice, NotFoundError, and RunError
        where a record is damaged.
        """
        if not 2 <= len(run_ids) <= MOST_COMPARED or len(set(run_ids)) < len(run_ids):
            what = f"{len(set(run_ids))} different runs were given."
            remedy = f"Choose from 2 to {MOST_COMPARED}, each once."
            raise ConfigError(Problem("runs", what, remedy))
        folders = [self._store.get(run_id) for run_id in run_ids]
        rows = [self.row(run_id) for run_id in run_ids]
        views = [
            view_run(folder, RunState(row.state)) for folder, row in zip(folders, rows, strict=True)
        ]
        return compare_runs(folders, views, rows, [self.curves(run_id) for run_id in run_ids])

    def export_csv(self, run_ids: Sequence[str]) -> Iterator[str]:
        """Yield every number of one run or several as CSV, in pieces; raises NotFoundError."""
        named = [(row.id, row.name, self.curves(row.id)) for row in map(self.row, run_ids)]
        return csv_of(named)

    def export_html(self, run_ids: Sequence[str]) -> str:
        """Return a comparison as one HTML file that needs nothing else; raises as `compare`."""
        return page_of(self.compare(run_ids), time.time())

    def _ordered(
        self, version: int, settled: list[Row], moving: list[Row], wanted: Wanted
    ) -> list[Row]:
        key = (version, wanted)
        with self._turn:
            known = self._chosen.get(key)
        if known is None:
            lines = self._lines_of(version, settled) if wanted.query else None
            found = wanted.chosen(settled, lines)
            known = wanted.ordered(found, newest_first=True)
            with self._turn:
                while len(self._chosen) >= REMEMBERED:
                    self._chosen.pop(next(iter(self._chosen)))
                self._chosen[key] = known
        return wanted.ordered([*known, *wanted.chosen(moving)]) if moving else known

    def _lines_of(self, version: int, settled: list[Row]) -> list[str]:
        known, lines = self._lines
        if known != version:
            lines = [row.searched for row in settled]
            self._lines = (version, lines)
        return lines

    def _counts(
        self, version: int, settled: list[Row], moving: list[Row]
    ) -> tuple[Counter[str], Counter[str]]:
        counted, states, tags = self._counted
        if counted != version:
            states, tags = _counted(settled)
            self._counted = (version, states, tags)
        more_states, more_tags = _counted(moving)
        return states + more_states, tags + more_tags


def _counted(rows: Iterable[Row]) -> tuple[Counter[str], Counter[str]]:
    states: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    for row in rows:
        states[row.state] += 1
        tags.update(row.tags)
    return states, tags


def _place_of(run_id: str, rows: list[Row]) -> int:
    for place, row in enumerate(rows):
        if row.id == run_id:
            return place
    what = f"The run {run_id[:80]!r} is not in this list."
    raise NotFoundError(Problem("before", what, "Ask for the first page again."))
