"""An index of all runs that reads the folder of an ended run only once.

A row is read again when the mtime of its folder has changed: every writer renames a file in it.
The mtime of the runs folder shows whether folders must be compared; active runs are read every
time. Rows of ended runs are cached in a file for the next process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter

from modelforge.errors import RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import FRESH_NS, mtime_ns, write_text
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import RunRow, sort_newest_first
from modelforge.runs.store import is_id

log = logging.getLogger(__name__)

FORMAT = 1
READ_AGAIN_S = 1.0
# Number of settled rows that are compared with their folders at each refresh, in turn.
CHECKED_AT_ONCE = 64
WORTH_KEEPING = 32
KEEP_EVERY_S = 60.0

_ROWS = TypeAdapter(list[tuple[str, int, RunRow]])
# Whether a row may still change: ended, waiting for a start, or in use by a process.
Stability = Literal["over", "idle", "busy"]
ReadRow = Callable[[RunFolder], tuple[RunRow, Stability]]


@dataclass(slots=True)
class _Entry:
    """A run as it was read; `row` is None when its record is damaged."""

    mark: int
    row: RunRow | None
    stability: Stability
    settled: bool


@dataclass
class _Known:
    """The entries by run id; `version` grows when a settled one changes."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    moving: set[str] = field(default_factory=set)
    version: int = 0
    settled: list[RunRow] = field(default_factory=list)
    settled_version: int = -1


class Index:
    """Rows of every run of a home. Safe to use from several threads and several servers."""

    def __init__(self, home: Home, read_row: ReadRow) -> None:
        self._runs = home.runs
        self._file = kept_file(home)
        self._read_row = read_row
        self._known = _Known()
        self._mark: int | None = None
        self._scanned_ns = 0
        self._lock = threading.Lock()
        self._next_check: Iterator[str] = iter(())
        self._unkept = 0
        self._kept_at = 0.0
        self._read_again_at = 0.0

    def rows(self) -> tuple[int, list[RunRow], list[RunRow]]:
        """Return the version, the settled rows (newest first) and all others.

        Settled rows change only with the version.
        """
        with self._lock:
            self._refresh()
            known = self._known
            if known.settled_version != known.version:
                settled = (entry.row for entry in known.entries.values() if entry.settled)
                known.settled = sort_newest_first(row for row in settled if row is not None)
                known.settled_version = known.version
            moving = [known.entries[run_id].row for run_id in known.moving]
            return known.version, known.settled, [row for row in moving if row is not None]

    def row(self, run_id: str) -> RunRow | None:
        """Return the row of one run, or None."""
        with self._lock:
            self._refresh()
            entry = self._known.entries.get(run_id)
            return entry.row if entry else None

    def find_request(self, request_id: str) -> str | None:
        """Return the id of the run that was created for this request, or None."""
        _version, settled, moving = self.rows()
        return next((row.id for row in (*moving, *settled) if row.request_id == request_id), None)

    def unsettled(self, thorough: bool = False) -> list[RunFolder]:
        """Return the runs that may still change.

        With `thorough`, every folder is compared, even if the runs folder has not changed. Rows
        are read again once a second at most: the caller looks at each run itself.
        """
        with self._lock:
            is_due = time.monotonic() >= self._read_again_at
            self._refresh(thorough=thorough, read_again=is_due)
            return [RunFolder(self._runs / run_id) for run_id in sorted(self._known.moving)]

    def _refresh(self, *, thorough: bool = False, read_again: bool = True) -> None:
        """Compare the folders with what is known; `read_again` also those that are the same."""
        if read_again:
            self._read_again_at = time.monotonic() + READ_AGAIN_S
        if self._mark is None:
            self._open_kept()
        mark = mtime_ns(self._runs)
        if thorough or mark != self._mark or abs(self._scanned_ns - mark) < FRESH_NS:
            self._scanned_ns = time.time_ns()
            self._mark = mark
            self._compare(self._on_disk(), read_again=read_again)
        else:
            self._compare_some(read_again=read_again)
        self._keep_now_and_then()

    def _compare(self, marks: dict[str, int], *, read_again: bool) -> None:
        """Drop deleted runs, and read those that are new, changed or not settled."""
        entries = self._known.entries
        for run_id in entries.keys() - marks.keys():
            self._forget(run_id)
        for run_id, mark in marks.items():
            known = entries.get(run_id)
            if known is None or known.mark != mark or (read_again and not known.settled):
                self._read(run_id, mark)

    def _compare_some(self, *, read_again: bool) -> None:
        some = list(islice(self._next_check, CHECKED_AT_ONCE))
        if not some:
            self._next_check = iter(list(self._known.entries))
        for run_id in {*self._known.moving, *some}:
            entry = self._known.entries.get(run_id)
            if entry is None:
                continue
            mark = mtime_ns(self._runs / run_id)
            if not mark:
                self._forget(run_id)
            elif mark != entry.mark or (read_again and not entry.settled):
                self._read(run_id, mark)

    def _read(self, run_id: str, mark: int) -> None:
        known = self._known.entries.get(run_id)
        if known and known.mark == mark and known.stability == "idle":
            return  # a launch would have changed its folder
        folder = RunFolder(self._runs / run_id)
        row: RunRow | None = None
        stability: Stability = "idle"
        try:
            row, stability = self._read_row(folder)
        except RunError as error:
            if known is None or known.mark != mark:
                log.warning("%s", error)
        old = abs(time.time_ns() - mark) > FRESH_NS
        settled = row is not None and stability == "over" and old
        if settled or (known and known.settled):
            self._known.version += 1
            self._unkept += settled
        # A recently changed idle run may be launched without a change of the mtime.
        stability = "busy" if stability == "idle" and not old else stability
        self._known.entries[run_id] = _Entry(mark, row, stability, settled)
        (self._known.moving.discard if settled else self._known.moving.add)(run_id)

    def _forget(self, run_id: str) -> None:
        del self._known.entries[run_id]
        self._known.moving.discard(run_id)
        self._known.version += 1
        self._unkept += 1

    def _on_disk(self) -> dict[str, int]:
        """Return the mtime of each run folder by id, in nanoseconds."""
        mtimes: dict[str, int] = {}
        try:
            with os.scandir(self._runs) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):  # deleted meanwhile
                        if is_id(entry.name) and entry.is_dir(follow_symlinks=False):
                            mtimes[entry.name] = entry.stat(follow_symlinks=False).st_mtime_ns
        except OSError:
            return {}
        return mtimes

    # The cache for the next process

    def _open_kept(self) -> None:
        for run_id, (mark, row) in read_kept(self._file).items():
            self._known.entries[run_id] = _Entry(mark, row, "over", settled=True)
        self._known.version += 1

    def _keep_now_and_then(self) -> None:
        due = time.monotonic() - self._kept_at > KEEP_EVERY_S
        if self._unkept >= WORTH_KEEPING or (self._unkept and due):
            self._unkept = 0
            self._kept_at = time.monotonic()
            settled = {
                run_id: (entry.mark, entry.row)
                for run_id, entry in self._known.entries.items()
                if entry.settled and entry.row is not None
            }
            write_kept(self._file, settled)


def kept_file(home: Home) -> Path:
    """Return the path of the cache of rows."""
    return home.cache / "runs.json"


def read_kept(path: Path) -> dict[str, tuple[int, RunRow]]:
    """Return the cached mtimes and rows by run id; empty when the file is missing or invalid."""
    try:
        cache: Any = orjson.loads(path.read_bytes())
        rows = _ROWS.validate_python(cache["rows"]) if cache["format"] == FORMAT else []
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {run_id: (mark, row) for run_id, mark, row in rows if row.id == run_id}


def write_kept(path: Path, rows: dict[str, tuple[int, RunRow]]) -> None:
    """Write the cache atomically; errors are ignored, as it only saves time."""
    cache = {"format": FORMAT, "rows": [(key, mark, row) for key, (mark, row) in rows.items()]}
    with contextlib.suppress(OSError, RunError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, orjson.dumps(cache).decode())
