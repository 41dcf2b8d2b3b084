"""Records that name the wrong process: nobody else is ever signalled.

Some name the first process or our own parent, so all of it happens under a recorder that lets no
signal through: a guard that is broken must fail a test, and not take the machine with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import psutil

from modelforge.runs.atomic_files import write_json, write_text
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import ProcessIdentity
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState
from tests.faults.place import ACTORS, Place, Tally

Record = dict[str, Any]


def _another_birth(pid: int) -> Record:
    earlier = {"birth": psutil.Process(pid).create_time() - 3600, "start_ticks": 1}
    return ProcessIdentity.of(pid).as_dict() | earlier


# What stands in process.json, given a stranger's process id.
RECORDS: dict[str, Callable[[int], Record]] = {
    "pid 0": lambda _pid: {"pid": 0, "birth": 0.0},
    "pid 1 with the birth of another": lambda _pid: _another_birth(1),
    "pid 1 as it was in an earlier boot": lambda _pid: (
        ProcessIdentity.of(1).as_dict() | {"boot_id": "x"}
    ),
    "pid 1 itself": lambda _pid: ProcessIdentity.of(1).as_dict(),
    "pid -1": lambda _pid: {"pid": -1, "birth": 0.0},
    "our own pid, reused": lambda _pid: _another_birth(os.getpid()),
    "our parent's pid, reused": lambda _pid: _another_birth(os.getppid()),
    "a stranger's pid, reused": _another_birth,
    "a stranger's pid by birth alone": lambda pid: {
        "pid": pid,
        "birth": psutil.Process(pid).create_time() - 3.0,
    },
    "a stranger's pid from an earlier boot": lambda pid: (
        ProcessIdentity.of(pid).as_dict() | {"boot_id": "another"}
    ),
    "a pid that is gone": lambda _pid: {"pid": 2**22 - 7, "birth": time.time()},
    "no number at all": lambda _pid: {"pid": "1; kill", "birth": "yesterday"},
    "true for a number": lambda _pid: {"pid": True, "birth": 1.0},
}


def play(place: Place, times: int, seed: int) -> Tally:
    """Go through all records `times` times: look, stop, tend, and start the next run over each."""
    tally = Tally("stale and reused process ids", seed)
    for _ in range(times):
        for case, record in RECORDS.items():
            with _a_stranger() as pid:
                tally.add(case, _faults(place, record(pid), pid))
    return tally


def _faults(place: Place, record: Record, pid: int) -> list[str]:
    run = place.new_run()
    command = [sys.executable, str(ACTORS / "finishes.py")]
    supervisor = Supervisor(place.home, command=command, stop_timeout_s=0.0, exit_timeout_s=0.0)
    faults: list[str] = []
    with _recorded() as signals:
        write_json(run.process, record | {"launched": time.time()})
        seen = _seen_through(supervisor, run)
        # Not by the store, which ends a run's worker first.
        shutil.rmtree(run.path)
        faults += [f"process {target} was signalled" for target in signals]
    if psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        faults.append("the stranger is dead")
    if seen != RunState.LOST:
        faults.append(f"the run is {seen}")
    return faults


def _seen_through(supervisor: Supervisor, run: RunFolder) -> RunState:
    seen = supervisor.state(run)
    supervisor.stop(run)
    write_text(run.stop, "discard")
    for _ in range(2):
        supervisor.tend()
        time.sleep(0.02)
    run.stop.unlink()
    # As though it had ended: the next start clears the way of what still lives.
    run.events.write_text('{"n": 1, "t": 1.0, "kind": "finished", "data": {}}\n', encoding="utf-8")
    supervisor.tend()
    with supervisor.claim():
        supervisor._end_lingering_workers()
    run.events.unlink()
    return seen


@contextmanager
def _recorded() -> Iterator[list[int]]:
    """Keep a list of who would have been signalled, and signal nobody."""
    signals: list[int] = []

    def note(target: int, *_: Any) -> None:
        signals.append(target)

    def noted(process: psutil.Process, *_: Any) -> None:
        signals.append(process.pid)

    with (
        mock.patch("os.kill", note),
        mock.patch("os.killpg", note),
        mock.patch("psutil.Process.kill", noted),
        mock.patch("psutil.Process.terminate", noted),
        mock.patch("psutil.Process.suspend", noted),
        mock.patch("psutil.Process.send_signal", noted),
    ):
        try:
            yield signals
        finally:
            for thread in threading.enumerate():
                if thread.name == "stop":  # the supervisor's, which signals too
                    thread.join()


@contextmanager
def _a_stranger() -> Iterator[int]:
    command = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command, start_new_session=True) as stranger:
        try:
            yield stranger.pid
        finally:
            stranger.kill()
