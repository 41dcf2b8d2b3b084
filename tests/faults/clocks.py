"""Clocks that jump: in the worker, and in the times of files."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from modelforge.runs.atomic_files import write_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState, read_facts
from tests.faults.place import ACTORS, Place, Tally, disorder, events_of, steps_of, until
from tests.faults.serving import Follower, Server

DAY_S = 86_400.0
DAYS = {"a day back": -DAY_S, "a day on": DAY_S}
JUMPS = DAYS | {"an hour back": -3600.0, "an hour on": 3600.0}
PATIENCE_S = 0.5
_NEGATIVE = re.compile(r"[>\s][-−]\d")


def in_the_worker(
    server: Server, place: Place, times: int, seed: int, jumps: dict[str, float] = JUMPS
) -> Tally:
    """Set the worker's clock in mid-run while a page looks on."""
    tally = Tally("clock jumps in the worker", seed)
    for case, jump in jumps.items():
        for _ in range(times):
            run = RunFolder(
                place.home.runs / server.start_run(place.played_by("jumps", JUMP_S=jump))
            )
            follower = Follower(server, run.id)
            shown = []
            while not follower.wait(0.1):
                shown.append(str(server.page(run.id)["parts"].get("run-progress")))
            faults = disorder(events_of(run))
            if follower.state != "finished" or steps_of(events_of(run))[-1] != 20:
                faults.append(f"the run is {follower.state}")
            if follower.numbers != [event.n for event in events_of(run)]:
                faults.append("the stream has lost or doubled events")
            wrong = [text for text in shown if _NEGATIVE.search(re.sub("<[^>]*>", " ", text))]
            if wrong:
                faults.append(f"the page shows a negative time: {wrong[0]}")
            tally.add(case, faults, looks=len(shown))
    return tally


def in_the_files(place: Place, times: int, seed: int, jumps: dict[str, float] = JUMPS) -> Tally:
    """Give the files that time is read from the times of another day."""
    tally = Tally("clock jumps in the times of files", seed)
    for _ in range(times):
        for case, part in FILES.items():
            for name, jump in jumps.items():
                tally.add(f"{case}, {name}", part(place, jump))
    return tally


def _a_wish_to_stop(place: Place, jump: float) -> list[str]:
    """A deaf worker is ended after the patience, whenever the wish seems to have been written."""
    supervisor, run = _playing(place, "deaf")
    until(lambda: steps_of(events_of(run)), 10, "it works")
    began = time.monotonic()
    supervisor.stop(run)
    _shift(run.stop, jump)
    until(lambda: supervisor.state(run) is RunState.STOPPED, 10, "it is stopped")
    until(lambda: not read_facts(run).alive, 10, "it is gone")
    return [] if time.monotonic() - began < 5 else ["it took long"]


def _a_last_word(place: Place, jump: float) -> list[str]:
    """A worker that hangs after it finished has finished, and is ended in the end."""
    supervisor, run = _playing(place, "lingers")
    until(lambda: supervisor.state(run) is RunState.FINISHED, 10, "it has finished")
    _shift(run.events, jump)
    faults = []
    supervisor.tend()
    if jump <= 0 or read_facts(run).alive:
        _shift(run.events, -abs(jump))
        supervisor.tend()
    until(lambda: not read_facts(run).alive, 10, "it is gone")
    if supervisor.state(run) is not RunState.FINISHED:
        faults.append(f"the run is {supervisor.state(run)}")
    return faults


def _a_launch(place: Place, jump: float) -> list[str]:
    """A launch of another day that nobody recorded is not waited for."""
    run = place.new_run()
    write_json(run.process, {"launching": time.time() + jump})
    state = Supervisor(place.home).state(run)
    place.store.delete(run.id)
    return [] if state is RunState.LOST else [f"the run is {state}"]


FILES: dict[str, Callable[[Place, float], list[str]]] = {
    "the wish to stop": _a_wish_to_stop,
    "the last word": _a_last_word,
    "the launch": _a_launch,
}


def _playing(place: Place, actor: str) -> tuple[Supervisor, RunFolder]:
    command = [sys.executable, str(ACTORS / f"{actor}.py")]
    supervisor = Supervisor(
        place.home, command=command, stop_timeout_s=PATIENCE_S, exit_timeout_s=PATIENCE_S
    )
    run = place.new_run()
    supervisor.start(run)
    return supervisor, run


def _shift(path: Path, jump: float) -> None:
    then = time.time() + jump
    os.utime(path, (then, then))
