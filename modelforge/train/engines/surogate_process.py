"""The program Surogate as a child of the worker: its output goes to the log of the run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

import psutil

from modelforge.config.engines import PROGRAM
from modelforge.diagnosis.classify import match_text, signal_of
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

LAST_LINES = 40
# After a request to stop: seconds until it is terminated, and until it is killed.
TERMINATE_AFTER_S, KILL_AFTER_S = 10.0, 15.0
_STEPS = re.compile(r"[Ss]tarting training loop: steps (\d+) to (\d+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Variables of our own Python that another environment must not see.
OUR_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class EngineProcess:
    """A running engine, in the process group of the worker so that both are ended together."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in OUR_PYTHON}
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**inherited, **variables},
            )
        except OSError as error:
            what = f"{command[0]} cannot be started: {error.strerror or type(error).__name__}."
            raise WorkerError("engine-missing", _missing(what)) from error
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self.total_steps: int | None = None
        self._asked_at: float | None = None
        self._signals = 0
        self._reader = threading.Thread(target=self._follow_output, daemon=True)
        self._reader.start()

    @property
    def has_ended(self) -> bool:
        """Whether the program has ended and all its output was read."""
        return self._process.poll() is not None and not self._reader.is_alive()

    @property
    def code(self) -> int | None:
        """The exit code; negative for a signal; None while it runs."""
        return self._process.returncode

    def memory_gib(self) -> float | None:
        """Return the resident memory of the program and its children in GiB."""
        try:
            leader = psutil.Process(self._process.pid)
            members = [leader, *leader.children(recursive=True)]
            return sum(member.memory_info().rss for member in members) / 2**30
        except psutil.Error:
            return None

    def ask_to_stop(self) -> None:
        """Interrupt the program; called again later, terminate it, then kill it.

        Surogate ends at an interrupt between two steps, and writes no result then.
        """
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        waited = now - self._asked_at
        steps = ((0.0, signal.SIGINT), (TERMINATE_AFTER_S, signal.SIGTERM), (KILL_AFTER_S, None))
        for after, number in steps[self._signals :]:
            if waited < after:
                return
            self._signals += 1
            if number is None:
                self.kill()
            else:
                with contextlib.suppress(OSError):
                    self._process.send_signal(number)

    def kill(self) -> None:
        """End the program and all its children at once, and wait for the end."""
        with contextlib.suppress(psutil.Error):
            leader = psutil.Process(self._process.pid)
            for member in [*leader.children(recursive=True), leader]:
                with contextlib.suppress(psutil.Error):
                    member.kill()
        self._process.wait()
        self._reader.join(5.0)

    def failure(self) -> WorkerError:
        """Return the error of a program that ended without a result, from what it printed."""
        lines = [line for line in self._last if line.strip()]
        for line in reversed(lines):
            if known := match_text(line):
                return WorkerError(known.code, Problem(known.where, known.what, known.remedy))
        number = signal_of(self.code)
        how = f"by signal {number}" if number else f"with exit code {self.code}"
        last = f" Its last line: {lines[-1].strip()[:160]}" if lines else ""
        what = f"Surogate ended {how}.{last}"
        remedy = "The log of the run has its output; the engine inprocess trains without it."
        return WorkerError("engine-failed", Problem("hardware.engine", what, remedy))

    def _follow_output(self) -> None:
        if self._process.stdout is None:
            raise AssertionError("the output is a pipe")
        with self._process.stdout as output:
            for raw in output:
                line = _COLOURS.sub("", raw.decode("utf-8", "replace")).rstrip()
                self._last.append(line)
                if found := _STEPS.search(line):
                    self.total_steps = int(found[2]) + 1
                with contextlib.suppress(OSError, ValueError):  # the disk is full
                    sys.stdout.write(f"{line}\n")


def missing_engine() -> WorkerError:
    """Return the error of a run whose engine is not installed."""
    return WorkerError("engine-missing", _missing(f"No program {PROGRAM} is found."))


def _missing(what: str) -> Problem:
    remedy = "Set MODELFORGE_SUROGATE to its path, or choose the engine inprocess."
    return Problem("hardware.engine", what, remedy)
