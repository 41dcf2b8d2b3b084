"""The state of a run, derived from the files of its folder and its process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelforge.runs.atomic_files import find_json
from modelforge.runs.event_types import ENDINGS, StartedEvent
from modelforge.runs.events import first_event, newest_milestone
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import CHILDREN, ProcessIdentity
from modelforge.runs.process.launch import Launch, read_launch


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


def seconds_worked(process: Mapping[str, Any], until: float, created: float) -> float:
    """Return how long workers have worked on a run: each from its launch to its last event.

    Args:
        process: The record of the newest worker; empty before the first one.
        until: Unix time of the newest event.
        created: Unix time since when the worker of a record without times counts, as those of
            older versions.
    """
    before, launched = process.get("worked_before"), process.get("launched")
    worked = before if isinstance(before, float) else 0.0
    if isinstance(launched, float):
        return worked + max(0.0, until - launched)
    return worked + (0.0 if "worked_before" in process else max(0.0, until - created))


# A launch without a recorded process ends after this time: its server died in between.
LAUNCH_S = 30.0


@dataclass(frozen=True)
class RunFacts:
    """The facts that determine the state. `milestone` is the newest start or ending event.

    `launch` is the record of a run that trains elsewhere; its process is the relay.
    """

    launched: bool
    alive: bool
    stop_requested: bool
    milestone: str | None
    process: ProcessIdentity | None = None
    launch: Launch | None = None

    @property
    def may_go_on(self) -> bool:
        """Whether a job elsewhere may still live, or its files are not here yet."""
        return self.launched and self.launch is not None and not self.launch.is_over

    @property
    def state(self) -> RunState:
        """The state that follows from the facts.

        An ending event takes precedence: a worker that hangs after `finished` has finished, and a
        late stop request has no effect. A worker that ended without an ending event after a stop
        request counts as stopped. A job elsewhere does not end with its relay.
        """
        if self.milestone in _ENDED:
            return _ENDED[self.milestone]
        if not self.launched:
            return RunState.STOPPED if self.stop_requested else RunState.QUEUED
        if not self.alive and not self.may_go_on:
            return RunState.STOPPED if self.stop_requested else RunState.LOST
        if self.stop_requested:
            return RunState.STOPPING
        return RunState.RUNNING if self.milestone == "started" else RunState.STARTING


def read_facts(folder: RunFolder) -> RunFacts:
    """Return the facts of a run."""
    CHILDREN.reap()
    recorded = find_json(folder.process)
    record = recorded or {}
    process, launch = ProcessIdentity.from_dict(record), read_launch(folder.launch)
    if process is None and launch is None:
        # A server may die before it records the process, which its start event names as well.
        first = first_event(folder.events, _number(record, "from"))
        if first is not None and first.kind == StartedEvent.kind:
            process = ProcessIdentity.from_dict(first.data)
    # Before the events: a worker that finishes in between must not look lost.
    since = record.get("launching")
    is_starting = isinstance(since, (int, float)) and abs(time.time() - since) < LAUNCH_S
    alive = process.alive if process else is_starting
    stop_requested = folder.stop.exists()
    # Events before the newest launch belong to an earlier worker.
    milestone = newest_milestone(folder.events, _number(record, "after"))
    if not alive and milestone not in ENDINGS:
        # The event file may have lost its last line.
        ending = (find_json(folder.exit) or {}).get("state")
        milestone = ending if ending in ENDINGS else milestone
    launched = recorded is not None or process is not None
    return RunFacts(launched, alive, stop_requested, milestone, process, launch)


def _number(record: dict[str, Any], name: str) -> int:
    value = record.get(name)
    return value if isinstance(value, int) else 0
