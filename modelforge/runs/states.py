"""The state of a run, derived from the files of its folder and its process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from modelforge.runs.atomic_files import find_json
from modelforge.runs.event_types import ENDINGS
from modelforge.runs.events import first_event, newest_milestone
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import CHILDREN, ProcessIdentity


class RunState(StrEnum):
    """State of a run. `lost`: the process ended without an ending event."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self in _OVER

    @property
    def is_active(self) -> bool:
        """Whether a process works on the run or is being started."""
        return self is not RunState.QUEUED and self not in _OVER


_OVER = {RunState.FINISHED, RunState.STOPPED, RunState.FAILED, RunState.LOST}
_ENDED = {state.value: state for state in _OVER - {RunState.LOST}}


# A launch without a recorded process ends after this time: its server died in between.
LAUNCH_S = 30.0


@dataclass(frozen=True)
class RunFacts:
    """The facts that determine the state. `milestone` is the newest start or ending event."""

    launched: bool
    alive: bool
    stop_requested: bool
    milestone: str | None
    process: ProcessIdentity | None = None

    @property
    def state(self) -> RunState:
        """The state that follows from the facts.

        An ending event takes precedence: a worker that hangs after `finished` has finished, and a
        late stop request has no effect. A worker that ended without an ending event after a stop
        request counts as stopped.
        """
        if self.milestone in _ENDED:
            return _ENDED[self.milestone]
        if not self.launched:
            return RunState.STOPPED if self.stop_requested else RunState.QUEUED
        if not self.alive:
            return RunState.STOPPED if self.stop_requested else RunState.LOST
        if self.stop_requested:
            return RunState.STOPPING
        return RunState.RUNNING if self.milestone == "started" else RunState.STARTING


def read_facts(folder: RunFolder) -> RunFacts:
    """Return the facts of a run."""
    CHILDREN.reap()
    record = find_json(folder.process)
    process = ProcessIdentity.from_dict(record) if record else None
    if process is None:
        process = _process_of_events(folder, _number(record, "from"))
    # Before the events: a worker that finishes in between must not look lost.
    alive = process.alive if process else _is_being_launched(record)
    stop_requested = folder.stop.exists()
    # Events before the newest launch belong to an earlier worker.
    milestone = newest_milestone(folder.events, _number(record, "after"))
    if not alive and milestone not in ENDINGS:
        milestone = _recorded_ending(folder) or milestone
    launched = record is not None or process is not None
    return RunFacts(launched, alive, stop_requested, milestone, process)


def _number(record: dict[str, object] | None, name: str) -> int:
    value = record.get(name) if record else None
    return value if isinstance(value, int) else 0


def _process_of_events(folder: RunFolder, offset: int) -> ProcessIdentity | None:
    """Return the process of the start event; a server may die before it records the process.

    Events before byte `offset` belong to earlier workers.
    """
    first = first_event(folder.events, offset)
    return ProcessIdentity.from_dict(first.data) if first and first.kind == "started" else None


def _is_being_launched(record: dict[str, object] | None) -> bool:
    since = record.get("launching") if record else None
    return isinstance(since, (int, float)) and abs(time.time() - since) < LAUNCH_S


def _recorded_ending(folder: RunFolder) -> str | None:
    """Return the ending in exit.json, for an event file that lost its last line."""
    state = (find_json(folder.exit) or {}).get("state")
    return state if state in ENDINGS else None
