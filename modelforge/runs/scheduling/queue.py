"""The queue: the order of the waiting runs, and which one starts next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.scheduling.schedule_times import ClockReading, format_time
from modelforge.runs.states import RunState

FORMAT = 1
SET_AT_KEY = "said"
DAMAGED = (
    "The queue file could not be read. The order was restored from the waiting runs; holds and "
    "start times are lost."
)


@dataclass(frozen=True)
class QueueEntry:
    """A run in the queue. Times are Unix seconds.

    `start_after` was set at `set_at`. `resumes` is the time of the newest launch of a run that is
    to be resumed; None for a run that has never been started.
    """

    run: str
    held: bool = False
    why_held: str = ""
    start_after: float | None = None
    set_at: float | None = None
    resumes: float | None = None

    def is_due(self, clock: ClockReading) -> bool:
        """Return whether the start time has come.

        A clock before `set_at` was set back. Then the same delay counts from the start of this
        server.
        """
        if self.start_after is None:
            return True
        if self.set_at is not None and clock.now < self.set_at:
            return clock.watched_s >= self.start_after - self.set_at
        return clock.now >= self.start_after


@dataclass(frozen=True)
class WaitingRun:
    """A run that may wait in the queue; `target` is empty for this computer."""

    run: str
    name: str
    state: RunState
    created: float = 0.0
    launched: float | None = None
    target: str = ""


@dataclass(frozen=True)
class Decision:
    """The run to start now, or None and the reason as a code and a message."""

    run: str | None = None
    code: str = ""
    why: str = ""


@dataclass(frozen=True)
class Queue:
    """The waiting runs in order. `last` is the run that the queue started last."""

    order: tuple[QueueEntry, ...] = ()
    held: bool = False
    why_held: str = ""
    go_on_after_failure: bool = True
    last: str | None = None

    def find(self, run: str) -> QueueEntry | None:
        """Return the entry of a run, or None."""
        return next((entry for entry in self.order if entry.run == run), None)

    def with_entry(self, entry: QueueEntry) -> Queue:
        """Return the queue with a new entry at its end."""
        return replace(self, order=(*self.without(entry.run).order, entry))

    def without(self, run: str) -> Queue:
        """Return the queue without a run."""
        return replace(self, order=tuple(entry for entry in self.order if entry.run != run))

    def moved(self, run: str, position: int) -> Queue:
        """Return the queue with a run moved to a position from 1; large ones mean the end."""
        entry = self.find(run)
        if entry is None:
            return self
        rest = list(self.without(run).order)
        rest.insert(max(0, position - 1), entry)
        return replace(self, order=tuple(rest))

    def changed(self, run: str, **parts: Any) -> Queue:
        """Return the queue with parts of one entry changed."""
        order = (replace(entry, **parts) if entry.run == run else entry for entry in self.order)
        return replace(self, order=tuple(order))


def read_queue(path: Path) -> Queue:
    """Return the stored queue; an unreadable one is empty and held."""
    data = find_json(path)
    if data is None:
        return Queue(held=True, why_held=DAMAGED) if path.exists() else Queue()
    listed = data.get("order")
    entries = [_entry(item) for item in listed] if isinstance(listed, list) else []
    last, why = data.get("last"), data.get("why_held")
    return Queue(
        order=tuple(entry for entry in entries if entry is not None),
        held=data.get("held") is True,
        why_held=why if isinstance(why, str) else "",
        go_on_after_failure=data.get("go_on_after_failure") is not False,
        last=last if isinstance(last, str) else None,
    )


def write_queue(path: Path, queue: Queue) -> None:
    """Write the queue atomically; raises RunError."""
    data = asdict(queue)
    for entry in data["order"]:
        entry[SET_AT_KEY] = entry.pop("set_at")
    write_json(path, {"format": FORMAT, **data})


def reconcile(queue: Queue, runs: Mapping[str, WaitingRun]) -> Queue:
    """Return the queue with only the runs that wait now.

    Waiting runs without an entry, as after a loss of the file, are added at the end, oldest first.
    """
    kept: dict[str, QueueEntry] = {}
    for entry in queue.order:
        run = runs.get(entry.run)
        if run is not None and entry.run not in kept and _waits(entry, run):
            kept[entry.run] = entry
    missing = [run for run in runs.values() if run.state is RunState.QUEUED and run.run not in kept]
    missing.sort(key=lambda run: (run.created, run.run))
    return replace(queue, order=(*kept.values(), *(QueueEntry(run.run) for run in missing)))


def next_due(
    queue: Queue,
    runs: Mapping[str, WaitingRun],
    clock: ClockReading,
    busy: str = "",
    busy_targets: Mapping[str, str] = MappingProxyType({}),
) -> Decision:
    """Return the run to start now, or the reason why none is.

    `busy` says what uses the GPU, `busy_targets` why a target takes no further run. A run waits
    for its own place alone.
    """
    if not queue.order:
        held = " New runs wait until the queue is released." if queue.held else ""
        return Decision(code="empty", why=f"No runs are waiting.{held}")
    if queue.held:
        return Decision(code="held", why=queue.why_held or "The queue is held.")
    failed = None if queue.go_on_after_failure else runs.get(queue.last or "")
    if failed is not None and failed.state in (RunState.FAILED, RunState.LOST):
        how = "failed" if failed.state is RunState.FAILED else "was lost"
        why = f"“{failed.name}” {how}, and the queue stops after a failure. Release it to continue."
        return Decision(code="failure", why=why)
    reasons = {
        entry.run: busy_targets.get(target, "") if (target := runs[entry.run].target) else busy
        for entry in queue.order
    }
    waiting = [entry for entry in queue.order if not entry.held]
    for entry in waiting:
        if entry.is_due(clock) and not reasons[entry.run]:
            return Decision(run=entry.run)
    if why := next(filter(None, reasons.values()), ""):
        return Decision(code="busy", why=why)
    times = [entry.start_after for entry in waiting if entry.start_after]
    if not times:
        return Decision(code="all-held", why="Every waiting run is held.")
    why = f"The next run starts after {format_time(min(times), clock.now)}."
    return Decision(code="later", why=why)


def _waits(entry: QueueEntry, run: WaitingRun) -> bool:
    if entry.resumes is None:
        return run.state is RunState.QUEUED
    is_resumable = run.state.is_over and run.state is not RunState.FINISHED
    return is_resumable and run.launched == entry.resumes


def _entry(data: object) -> QueueEntry | None:
    """Return a stored entry, or None when it is invalid; `reconcile` adds its run again."""
    if not isinstance(data, dict) or not isinstance(data.get("run"), str):
        return None
    why = data.get("why_held")
    return QueueEntry(
        run=data["run"],
        held=data.get("held") is True,
        why_held=why if isinstance(why, str) else "",
        start_after=_number(data.get("start_after")),
        set_at=_number(data.get(SET_AT_KEY)),
        resumes=_number(data.get("resumes")),
    )


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None
