"""A spare worker that has imported the training stack and waits for a run."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from modelforge.errors import RunError
from modelforge.home import Home
from modelforge.runs.companion import Companion
from modelforge.runs.layout import RunFolder
from modelforge.runs.processes import environment, kill, wait_gone

COMMAND = (sys.executable, "-m", "modelforge.train", "--spare")
HAND_OVER_S = 5.0
LOG_LIMIT = 1_000_000


@dataclass(frozen=True)
class SparePolicy:
    """When a spare is worth its memory."""

    warm_above_gib: float = 3.0
    retire_below_gib: float = 1.5
    idle_s: float = 900.0
    # A spare that dies while it imports would only do so again.
    retry_after_s: float = 60.0


def memory_available_gib() -> float:
    """Return the memory that could be used without swapping."""
    return float(psutil.virtual_memory().available) / 2**30


class Spare:
    """At most one waiting worker. Without one everything works as well, only later."""

    def __init__(
        self,
        home: Home,
        *,
        command: Sequence[str] = COMMAND,
        clock: Callable[[], float] = time.monotonic,
        available_gib: Callable[[], float] = memory_available_gib,
        policy: SparePolicy | None = None,
    ) -> None:
        self._home = home
        self._log = home.logs / "spare.log"
        self._command = list(command)
        self._clock = clock
        self._available_gib = available_gib
        self._policy = policy or SparePolicy()
        self._turn = threading.RLock()
        self._companion: Companion | None = None
        self._is_ready = False
        self._wanted = 0.0
        self._not_before: float | None = None

    @property
    def ready(self) -> bool:
        """Whether a spare waits, with its imports done."""
        with self._turn:
            self._hear(0.0)
            return self._is_ready

    @property
    def pid(self) -> int | None:
        """The process id of the spare, or None when there is none."""
        with self._turn:
            return self._companion.pid if self._companion else None

    def warm(self) -> bool:
        """Start a spare if there is none and memory allows; return whether there is one now.

        Returns at once: `ready` tells when its imports are done.
        """
        with self._turn:
            now = self._clock()
            self._hear(0.0)
            self._wanted = now
            if self._companion is not None:
                return True
            if self._not_before is not None and now < self._not_before:
                return False
            if self._available_gib() <= self._policy.warm_above_gib:
                return False
            try:
                self._trim_log()
                self._companion = Companion(
                    self._command, self._log, environment=environment(self._home)
                )
            except (RunError, OSError):
                self._not_before = now + self._policy.retry_after_s
                return False
            return True

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the spare is ready; return whether it is."""
        with self._turn:
            self._hear(timeout_s)
            return self._is_ready

    def take(self, folder: RunFolder) -> subprocess.Popen[bytes] | None:
        """Hand the run over to the spare and return its process, or None when it cannot take it.

        None means that nobody works on the run, and that nobody will.
        """
        with self._turn:
            self._hear(0.0)
            companion, was_ready = self._companion, self._is_ready
            if companion is None or not was_ready:
                return None
            self._forget()
            try:
                companion.send({"run": str(folder.path)})
            except RunError:
                companion.close(0.0)
                return None
            if _takes(companion) and companion.wait_silent(HAND_OVER_S):
                return companion.release()
            if folder.events.exists():
                return companion.release()
            kill(companion.identity)
            wait_gone(companion.identity, HAND_OVER_S)
            companion.close(0.0)
            return None

    def tend(self, now: float | None = None) -> None:
        """Retire the spare when nobody has wanted it for long, or when memory is short."""
        with self._turn:
            self._hear(0.0)
            if self._companion is None:
                return
            unused_s = (self._clock() if now is None else now) - self._wanted
            short = self._available_gib() < self._policy.retire_below_gib
            if short or unused_s > self._policy.idle_s:
                self.close()

    def close(self) -> None:
        """End the spare, if there is one."""
        with self._turn:
            companion = self._companion
            self._forget()
            if companion is not None:
                companion.close()

    def _hear(self, timeout_s: float) -> None:
        """Take note of what the spare has said, and of its death."""
        companion = self._companion
        if companion is None:
            return
        deadline = time.monotonic() + timeout_s
        while not self._is_ready:
            said = companion.receive(max(0.0, deadline - time.monotonic()))
            if said is None:
                break
            self._is_ready = said.get("ready") is True
        if not companion.alive:
            if not self._is_ready:
                self._not_before = self._clock() + self._policy.retry_after_s
            self._forget()
            companion.close(0.0)

    def _forget(self) -> None:
        self._companion, self._is_ready = None, False

    def _trim_log(self) -> None:
        if self._log.exists() and self._log.stat().st_size > LOG_LIMIT:
            self._log.unlink()


def _takes(companion: Companion) -> bool:
    """Wait for the spare's word that it takes the run; it then lets go of its stdout.

    That the pipe ends says nothing by itself: a spare that was killed ends it too.
    """
    deadline = time.monotonic() + HAND_OVER_S
    while (said := companion.receive(max(0.0, deadline - time.monotonic()))) is not None:
        if said.get("taken") is True:
            return True
    return False
