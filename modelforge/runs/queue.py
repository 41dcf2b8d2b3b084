"""The queue: which runs wait in which order, which is due next, and why none is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.schedule_times import ClockReading, format_time
from modelforge.runs.states import RunState

FORMAT = 1
DAMAGED = (
    "The file of the queue could not be read. The order was made anew from the runs that wait; "
    "holds and times are gone."
)


@dataclass(frozen=True)
class QueueEntry:
    """One place in the queue. Times are Unix seconds.

    `start_after` was said at `said`. `resumes` is when the run was last launched, for one that is
    to go on from where it stopped; None for a run that has never been started.
    """

    run: str
    held: bool = False
    why_held: str = ""
    start_after: float | None = None
    set_at: float | None = None
    resumes: float | None = None

    def is_due(self, moment: ClockReading) -> bool:
        """Say whether its time has come.

        A clock that shows less than when the time was said has been set back. Then the wait is as
        long as it was said, counted from when this server began to watch.
        """
        if self.start_after is None:
            return True
        if self.set_at is not None and moment.now < self.set_at:
            return moment.watched_s >= self.start_after - self.set_at
        return moment.now >= self.start_after


@dataclass(frozen=True)
class WaitingRun:
    """What is known of a run that may wait: its state, name, age, and when it was launched."""

    run: str
    name: str
    state: RunState
    created: float = 0.0
    launched: float | None = None


@dataclass(frozen=True)
class Decision:
    """The run to start now, or None and why none is: a code, and a sentence for people."""

    run: str | None = None
    code: str = ""
    why: str = ""


@dataclass(frozen=True)
class Queue:
    """The order in which runs wait. `last` is the run that the queue has started last."""

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
        """Return the queue with a run at a position from 1; beyond the end is the end."""
        entry = self.find(run)
        if entry is None:
            return self
        rest = list(self.without(run).order)
        rest.insert(max(0, position - 1), entry)
        return replace(self, order=tuple(rest))

    def changed(self, run: str, **parts: Any) -> Queue:
        """Return the queue with parts of one entry changed."""
        order = tuple(replace(one, **parts) if one.run == run else one for one in self.order)
        return replace(self, order=order)


def read_queue(path: Path) -> Queue:
    """Return the queue on disk. One that cannot be read comes back empty and held."""
    data = find_json(path)
    if data is None:
        return Queue(held=True, why_held=DAMAGED) if path.exists() else Queue()
    listed = data.get("order")
    entries = [_entry(each) for each in listed] if isinstance(listed, list) else []
    last, why = data.get("last"), data.get("why_held")
    return Queue(
        order=tuple(entry for entry in entries if entry is not None),
        held=data.get("held") is True,
        why_held=why if isinstance(why, str) else "",
        go_on_after_failure=data.get("go_on_after_failure") is not False,
        last=last if isinstance(last, str) else None,
    )


def write_queue(path: Path, queue: Queue) -> None:
    """Write the queue whole; raises RunError as `write_json` does."""
    data = asdict(queue)
    for entry in data["order"]:
        entry["said"] = entry.pop("set_at")
    write_json(path, {"format": FORMAT, **data})


def reconcile(queue: Queue, standings: Mapping[str, WaitingRun]) -> Queue:
    """Return the queue as the runs are now.

    What no longer waits falls out; what waits and has no place, as after a loss of the file, is
    put at the end, the oldest first.
    """
    kept: dict[str, QueueEntry] = {}
    for entry in queue.order:
        standing = standings.get(entry.run)
        if standing is not None and entry.run not in kept and _waits(entry, standing):
            kept[entry.run] = entry
    found = [
        standing
        for standing in standings.values()
        if standing.state is RunState.QUEUED and standing.run not in kept
    ]
    added = [QueueEntry(one.run) for one in sorted(found, key=lambda one: (one.created, one.run))]
    return replace(queue, order=(*kept.values(), *added))


def next_due(
    queue: Queue, standings: Mapping[str, WaitingRun], moment: ClockReading, busy: str = ""
) -> Decision:
    """Return the run that is to start now, or why none is. `busy` says who holds the machine."""
    if not queue.order:
        held = " What is added waits until the queue is released." if queue.held else ""
        return Decision(code="empty", why=f"Nothing waits.{held}")
    if queue.held:
        return Decision(code="held", why=queue.why_held or "The queue is held.")
    failed = None if queue.go_on_after_failure else standings.get(queue.last or "")
    if failed is not None and failed.state in (RunState.FAILED, RunState.LOST):
        how = "failed" if failed.state is RunState.FAILED else "was lost"
        why = f"“{failed.name}” {how}, and the queue stops after a failure. Release it to go on."
        return Decision(code="failure", why=why)
    if busy:
        return Decision(code="busy", why=busy)
    due = next((one for one in queue.order if not one.held and one.is_due(moment)), None)
    return Decision(run=due.run) if due is not None else _waiting(queue.order, moment)


def _waiting(order: Iterable[QueueEntry], moment: ClockReading) -> Decision:
    later = [entry.start_after for entry in order if not entry.held and entry.start_after]
    if not later:
        return Decision(code="all-held", why="Every run that waits is held.")
    return Decision(
        code="later", why=f"The next run starts after {format_time(min(later), moment.now)}."
    )


def _waits(entry: QueueEntry, standing: WaitingRun) -> bool:
    if entry.resumes is None:
        return standing.state is RunState.QUEUED
    goes_on = standing.state.is_over and standing.state is not RunState.FINISHED
    return goes_on and standing.launched == entry.resumes


def _entry(data: object) -> QueueEntry | None:
    """Return an entry read back, or None for what is none: its run is found again by its age."""
    if not isinstance(data, dict) or not isinstance(data.get("run"), str):
        return None
    why = data.get("why_held")
    return QueueEntry(
        run=data["run"],
        held=data.get("held") is True,
        why_held=why if isinstance(why, str) else "",
        start_after=_number(data.get("start_after")),
        set_at=_number(data.get("said")),
        resumes=_number(data.get("resumes")),
    )


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None
