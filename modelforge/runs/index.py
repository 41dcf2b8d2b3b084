"""The list of runs, quick however many there are: what is settled is read once, by any process.

A row is read again when its folder has changed, which every writer of a run does by a rename in
it. Which folders are there, and that one of them has changed, is told by the mtime of the folder
of runs; active runs are looked at every time. What was read is kept in a file of the home for the
next process; deleting it costs time, nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import orjson

from modelforge.errors import RunError
from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import RunRow, sort_newest_first
from modelforge.runs.store import is_id

log = logging.getLogger(__name__)

FORMAT = 1
# Clocks of file systems tick in up to two seconds: what changed later than that may change unseen.
FRESH_NS = 2_000_000_000
# So many settled rows are compared with their folders at every look, in turn.
CHECKED_AT_ONCE = 64
WORTH_KEEPING = 32
KEEP_EVERY_S = 60.0

# Whether a row may still change: over for good, waiting for a start, or a process works on it.
Stability = Literal["over", "idle", "busy"]
ReadRow = Callable[[RunFolder], tuple[RunRow, Stability]]


@dataclass(slots=True)
class _Entry:
    """One run as it was read; without a row its record is damaged."""

    mark: int
    row: RunRow | None
    standing: Stability
    settled: bool


@dataclass
class _Known:
    """What one process knows: entries by id, and what changes when a settled one does."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    moving: set[str] = field(default_factory=set)
    version: int = 0
    settled: list[RunRow] = field(default_factory=list)
    settled_version: int = -1


class Index:
    """Rows of every run of a home. Safe to use from several threads and several servers."""

    def __init__(self, home: Home, look: ReadRow) -> None:
        self._runs = home.runs
        self._file = kept_file(home)
        self._look = look
        self._known = _Known()
        self._mark: int | None = None
        self._scanned_ns = 0
        self._turn = threading.Lock()
        self._next_check: Iterator[str] = iter(())
        self._unkept = 0
        self._kept_at = 0.0

    def rows(self) -> tuple[int, list[RunRow], list[RunRow]]:
        """Return a version, the settled rows that only change with it, and the others as of now.

        The settled ones come newest first.
        """
        with self._turn:
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
        with self._turn:
            self._refresh()
            entry = self._known.entries.get(run_id)
            return entry.row if entry else None

    def find_request(self, request_id: str) -> str | None:
        """Return the id of the run that was made for this request, or None."""
        _version, settled, moving = self.rows()
        return next((row.id for row in (*moving, *settled) if row.request_id == request_id), None)

    def unsettled(self, thorough: bool = False) -> list[RunFolder]:
        """Return the runs in which something may still happen.

        If `thorough`, every folder is compared with what is known of it, whatever their own says.
        """
        with self._turn:
            self._refresh(thorough=thorough)
            return [RunFolder(self._runs / run_id) for run_id in sorted(self._known.moving)]

    def _refresh(self, *, thorough: bool = False) -> None:
        if self._mark is None:
            self._open_kept()
        mark = _mtime(self._runs)
        if thorough or mark != self._mark or abs(self._scanned_ns - mark) < FRESH_NS:
            self._scanned_ns = time.time_ns()
            self._mark = mark
            self._compare(self._on_disk())
        else:
            self._compare_some()
        self._keep_now_and_then()

    def _compare(self, marks: dict[str, int]) -> None:
        """Drop what has gone, and look at what is new, has changed or may change."""
        entries = self._known.entries
        for run_id in entries.keys() - marks.keys():
            self._forget(run_id)
        for run_id, mark in marks.items():
            known = entries.get(run_id)
            if known is None or known.mark != mark or not known.settled:
                self._read(run_id, mark)

    def _compare_some(self) -> None:
        some = list(islice(self._next_check, CHECKED_AT_ONCE))
        if not some:
            self._next_check = iter(list(self._known.entries))
        for run_id in {*self._known.moving, *some}:
            entry = self._known.entries.get(run_id)
            if entry is None:
                continue
            mark = _mtime(self._runs / run_id)
            if not mark:
                self._forget(run_id)
            elif mark != entry.mark or not entry.settled:
                self._read(run_id, mark)

    def _read(self, run_id: str, mark: int) -> None:
        known = self._known.entries.get(run_id)
        if known and known.mark == mark and known.standing == "idle":
            return  # nobody has launched it: that would change its folder
        folder = RunFolder(self._runs / run_id)
        row: RunRow | None = None
        standing: Stability = "idle"
        try:
            row, standing = self._look(folder)
        except RunError as error:
            if known is None or known.mark != mark:
                log.warning("%s", error)
        old = abs(time.time_ns() - mark) > FRESH_NS
        settled = row is not None and standing == "over" and old
        if settled or (known and known.settled):
            self._known.version += 1
            self._unkept += settled
        # An idle run that is fresh might be launched within the same tick of the clock.
        standing = "busy" if standing == "idle" and not old else standing
        self._known.entries[run_id] = _Entry(mark, row, standing, settled)
        (self._known.moving.discard if settled else self._known.moving.add)(run_id)

    def _forget(self, run_id: str) -> None:
        del self._known.entries[run_id]
        self._known.moving.discard(run_id)
        self._known.version += 1
        self._unkept += 1

    def _on_disk(self) -> dict[str, int]:
        """Return the runs that are there, each with what changes when its folder does."""
        found: dict[str, int] = {}
        try:
            with os.scandir(self._runs) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):  # it went away in between
                        if is_id(entry.name) and entry.is_dir(follow_symlinks=False):
                            found[entry.name] = entry.stat(follow_symlinks=False).st_mtime_ns
        except OSError:
            return {}
        return found

    # What is kept for the next process

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
    """Return where rows are kept between processes."""
    return home.cache / "runs.json"


def read_kept(path: Path) -> dict[str, tuple[int, RunRow]]:
    """Return the rows that an earlier process has read; nothing where the file is of no use."""
    try:
        said: Any = orjson.loads(path.read_bytes())
        if said["format"] != FORMAT:
            return {}
        return {
            str(run_id): (int(mark), RunRow.from_dict(row))
            for run_id, mark, row in said["rows"]
            if row["id"] == run_id
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_kept(path: Path, rows: dict[str, tuple[int, RunRow]]) -> None:
    """Write the rows in one step; a disk that does not take them costs the next process time."""
    said = {"format": FORMAT, "rows": [(key, mark, row) for key, (mark, row) in rows.items()]}
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(orjson.dumps(said))
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
