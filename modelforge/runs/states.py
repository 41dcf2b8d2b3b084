"""The states of a run, read off facts. Knows nothing but the facts it is given."""

from __future__ import annotations

from enum import StrEnum


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
