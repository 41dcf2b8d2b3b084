"""Run a command within a time limit and end every process that it started. Standard library."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK = "MODELFORGE_BENCH_STEP"
END_S = 5.0
POLL_S = 0.2


@dataclass(frozen=True)
class Ended:
    """How a command ended: done, failed, timed out or stopped, with exit code and duration."""

    state: str
    seconds: float
    code: int | None


def run_limited(
    command: Sequence[str],
    limit_s: float,
    log: Path,
    environment: Mapping[str, str],
    mark: str,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run a command; end it and its descendants after `limit_s` seconds, or when `is_stopped`.

    Output goes to a file, because a pipe would stay open in a descendant that cannot be ended.
    `mark` is inherited by all descendants, so that also those in other sessions are found.
    """
    began = time.monotonic()
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**environment, MARK: mark},
                start_new_session=True,
            )
        except OSError as error:
            file.write(str(error).encode())
            return Ended("failed", 0.0, None)
        try:
            code, state = _wait(process, began + limit_s, is_stopped)
        finally:
            end_marked(process, mark)
    return Ended(state, round(time.monotonic() - began, 1), code)


def _wait(
    process: subprocess.Popen[bytes], deadline: float, is_stopped: Callable[[], bool]
) -> tuple[int | None, str]:
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(POLL_S)
            return code, "failed" if code else "done"
        if is_stopped():
            return None, "stopped"
        if time.monotonic() > deadline:
            return None, "timed out"


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Give an event that terminate and interrupt signals set."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def end_marked(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill a process, and all processes with this mark, and wait a moment for their end."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    for _ in range(3):  # a process may start another one meanwhile
        members = _marked(mark)
        if not members:
            break
        _kill(members)
    # A process that waits in the driver cannot be ended; the next step begins without it.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_S)


def _marked(mark: str) -> list[Any]:
    try:
        import psutil
    except ImportError:
        return []
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _kill(members: list[Any]) -> None:
    import psutil

    for member in members:
        with contextlib.suppress(psutil.Error):
            member.kill()
    psutil.wait_procs(members, END_S)
