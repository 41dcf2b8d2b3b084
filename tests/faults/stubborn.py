"""Workers that do not hear, do not leave, or leave somebody behind: none survives."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

from modelforge.forge import Forge
from modelforge.runs.atomic_files import read_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import ProcessIdentity
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState, read_facts
from tests.faults.place import ACTORS, SLACK, Place, Tally, disorder, events_of, until

PATIENCE_S = 0.5
ENDED_S = 15.0 * SLACK
TOLD_S = 5.0 * SLACK


def play(place: Place, times: int, seed: int) -> Tally:
    """Go through every kind of stubbornness `times` times."""
    tally = Tally("stubborn workers", seed)
    for _ in range(times):
        for case, part in PARTS.items():
            began = time.monotonic()
            faults = part(place)
            tally.add(case, faults, seconds=round(time.monotonic() - began, 2))
    return tally


def _playing(place: Place, actor: str) -> tuple[Supervisor, RunFolder]:
    command = [sys.executable, str(ACTORS / f"{actor}.py")]
    supervisor = Supervisor(
        place.home, command=command, stop_timeout_s=PATIENCE_S, exit_timeout_s=PATIENCE_S
    )
    run = place.new_run()
    supervisor.start(run)
    return supervisor, run


def _child_of(run: RunFolder) -> ProcessIdentity:
    notes = until(
        lambda: [event for event in events_of(run) if event.kind == "note"], 10, "it has a child"
    )
    return ProcessIdentity.of(int(notes[0].data["text"]))


def _deaf(place: Place) -> list[str]:
    """It hears neither the stop file nor SIGTERM, nor does its child."""
    supervisor, run = _playing(place, "deaf")
    child = _child_of(run)
    supervisor.stop(run)
    return _faults(supervisor, run, RunState.STOPPED, child)


def _deaf_to_a_second_server(place: Place) -> list[str]:
    """The server that asked it to stop has died."""
    first, run = _playing(place, "deaf")
    child = _child_of(run)
    del first
    run.stop.write_text("keep", encoding="utf-8")
    second = Supervisor(place.home, stop_timeout_s=PATIENCE_S, exit_timeout_s=PATIENCE_S)
    return _faults(second, run, RunState.STOPPED, child)


def _hangs_when_done(place: Place) -> list[str]:
    """It has finished, and hangs while it tears itself down; somebody asks to stop meanwhile."""
    supervisor, run = _playing(place, "lingers")
    until(lambda: supervisor.state(run) is RunState.FINISHED, 10, "it has finished")
    supervisor.stop(run)
    return _faults(supervisor, run, RunState.FINISHED)


def _leaves_a_child(place: Place) -> list[str]:
    """It is killed, and its child goes on."""
    supervisor, run = _playing(place, "leaves_a_child")
    child = _child_of(run)
    supervisor.tend()
    os.kill(read_json(run.process)["pid"], signal.SIGKILL)
    return _faults(supervisor, run, RunState.LOST, child)


def _killed_from_outside(place: Place) -> list[str]:
    """It is killed by somebody, and the server that started it knows by what."""
    supervisor, run = _playing(place, "obeys")
    until(lambda: supervisor.state(run) is RunState.RUNNING, 10, "it works")
    os.kill(read_json(run.process)["pid"], signal.SIGKILL)
    faults = _faults(supervisor, run, RunState.LOST)
    diagnosis = Forge(place.home).diagnosis

    def is_told() -> bool:
        # The system gives the signal away only once the last thread of the worker has ended.
        cause = diagnosis.cause(run.id)
        return cause is not None and cause.code == "killed"

    try:
        until(is_told, TOLD_S, "the cause is told")
    except TimeoutError:
        faults.append(f"the cause is {diagnosis.cause(run.id)}")
    return faults


PARTS: dict[str, Callable[[Place], list[str]]] = {
    "deaf to everything": _deaf,
    "deaf, and the server that asked is gone": _deaf_to_a_second_server,
    "hangs after it finished": _hangs_when_done,
    "killed, and leaves a child": _leaves_a_child,
    "killed from outside": _killed_from_outside,
}


def _faults(
    supervisor: Supervisor, run: RunFolder, state: RunState, child: ProcessIdentity | None = None
) -> list[str]:
    def ended() -> bool:
        supervisor.tend()
        facts = read_facts(run)
        return not facts.alive and facts.state is state and not (child and child.alive)

    try:
        until(ended, ENDED_S, "it is ended")
    except TimeoutError:
        left = "its child lives" if child and child.alive else "it lives"
        return [f"{left} after {ENDED_S} s; the run is {supervisor.state(run)}"]
    return disorder(events_of(run))
