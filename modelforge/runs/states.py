"""The states of a run, read off facts. Knows nothing but the facts it is given."""

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
    """Where a run stands; `lost` is honest: its process is gone and said nothing."""

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
        """Whether nothing more will happen in the run."""
        return self in _OVER

    @property
    def is_active(self) -> bool:
        """Whether a process works on the run, or is just being started for it."""
        return self is not RunState.QUEUED and self not in _OVER


_OVER = {RunState.FINISHED, RunState.STOPPED, RunState.FAILED, RunState.LOST}
_ENDED = {state.value: state for state in _OVER - {RunState.LOST}}


def derive(*, launched: bool, alive: bool, stop_asked: bool, last: str | None) -> RunState:
    """Read the state off four facts. `last` is the newest milestone the worker wrote.

    A milestone outweighs everything: a worker that hangs after `finished` has finished, and a
    late wish to stop changes nothing. Gone without a word after a wish to stop is stopped.
    """
    if last in _ENDED:
        return _ENDED[last]
    if not launched:
        return RunState.STOPPED if stop_asked else RunState.QUEUED
    if not alive:
        return RunState.STOPPED if stop_asked else RunState.LOST
    if stop_asked:
        return RunState.STOPPING
    return RunState.RUNNING if last == "started" else RunState.STARTING


# How long a launch may go unrecorded: its server has died between launch and record.
LAUNCH_S = 30.0


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run; `who` works on it, as far as anybody said."""

    launched: bool
    alive: bool
    stop_requested: bool
    milestone: str | None
    process: ProcessIdentity | None

    @property
    def state(self) -> RunState:
        """The state that follows from the facts."""
        return derive(
            launched=self.launched,
            alive=self.alive,
            stop_asked=self.stop_requested,
            last=self.milestone,
        )


def read_facts(folder: RunFolder) -> RunFacts:
    """Return the facts of a run.

    In the other order a worker that finishes in between would look lost.
    """
    CHILDREN.reap()
    record = find_json(folder.process)
    who = ProcessIdentity.from_dict(record) if record else None
    if who is None:
        who = _as_it_said_itself(folder, _number(record, "from"))
    alive = who.alive if who else _is_being_launched(record)
    stop_asked = folder.stop.exists()
    # What was said before the newest launch is history.
    last = newest_milestone(folder.events, _number(record, "after"))
    if not alive and last not in ENDINGS:
        last = _last_act(folder) or last
    return RunFacts(record is not None or who is not None, alive, stop_asked, last, who)


def _number(record: dict[str, object] | None, name: str) -> int:
    said = record.get(name) if record else None
    return said if isinstance(said, int) else 0


def _as_it_said_itself(folder: RunFolder, at: int) -> ProcessIdentity | None:
    """Return who the worker says it is: a server may die between launch and record.

    Before byte `at` stand those who worked on it earlier.
    """
    first = first_event(folder.events, at)
    return ProcessIdentity.from_dict(first.data) if first and first.kind == "started" else None


def _is_being_launched(record: dict[str, object] | None) -> bool:
    since = record.get("launching") if record else None
    return isinstance(since, (int, float)) and abs(time.time() - since) < LAUNCH_S


def _last_act(folder: RunFolder) -> str | None:
    """Return how the worker says it ended, for an event file that lost its last line."""
    said = (find_json(folder.exit) or {}).get("state")
    return said if said in ENDINGS else None
