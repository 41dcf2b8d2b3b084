"""A spare worker that has imported the training stack and waits for a run."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from modelforge.errors import BusyError, DataError, ForgeError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.events import size_of
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import child_environment, kill_tree, wait_ended
from modelforge.runs.process.jsonl_process import JsonlProcess
from modelforge.units import GIB

COMMAND = (sys.executable, "-m", "modelforge.train", "--warm")
HAND_OVER_S = 5.0
LISTEN_S = 0.1
LOG_LIMIT = 1_000_000


@dataclass(frozen=True)
class WarmWorkerPolicy:
    """When a spare is worth its memory."""

    warm_above_gib: float = 3.0
    retire_below_gib: float = 1.5
    idle_s: float = 900.0
    # A spare that dies while it imports would only do so again.
    retry_after_s: float = 60.0


def memory_available_gib() -> float:
    """Return the memory that could be used without swapping."""
    return float(psutil.virtual_memory().available) / GIB


class WarmWorker:
    """At most one waiting worker. Without one everything works as well, only later."""

    def __init__(
        self,
        home: Home,
        *,
        command: Sequence[str] = COMMAND,
        clock: Callable[[], float] = time.monotonic,
        available_gib: Callable[[], float] = memory_available_gib,
        policy: WarmWorkerPolicy | None = None,
    ) -> None:
        self._home = home
        self._log = home.logs / "spare.log"
        self._command = list(command)
        self._clock = clock
        self._available_gib = available_gib
        self._policy = policy or WarmWorkerPolicy()
        self._turn = threading.RLock()
        self._companion: JsonlProcess | None = None
        self._is_ready = False
        self._wanted, self._asked = 0.0, 0
        self._not_before: float | None = None
        self._asking = threading.Lock()
        self._taken: tuple[JsonlProcess | None, str] = (None, "")

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
                self._companion = JsonlProcess(
                    self._command, self._log, environment=child_environment(self._home)
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

    def ask(
        self,
        probe: dict[str, Any],
        timeout_s: float,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Return the answer to a probe, from a spare that is warmed for it if there is none.

        One probe is answered at a time, and a run that starts meanwhile comes first. Raises
        BusyError for both, RunError when no spare can be had, dies or takes too long, and
        DataError with what the spare has against the question.
        """
        deadline = time.monotonic() + timeout_s
        if not self._asking.acquire(timeout=timeout_s):
            what = "Another question about the data is being answered."
            raise BusyError(Problem("worker", what, "Ask again in a moment."), "")
        try:
            companion = self._readied(deadline)
            self._asked += 1
            number = self._asked
            with self._turn:
                if self._companion is not companion:
                    raise self._gone(companion)
                companion.send({"probe": {**probe, "id": number}})
            return self._answer(companion, number, deadline, on_progress)
        finally:
            self._asking.release()

    def _readied(self, deadline: float) -> JsonlProcess:
        """Return the spare once its imports are done."""
        if not self.warm():
            raise RunError(self._no_spare())
        while time.monotonic() < deadline:
            with self._turn:
                self._hear(LISTEN_S)
                companion = self._companion
                if companion is None:
                    raise RunError(self._ended())
                if self._is_ready:
                    return companion
            time.sleep(0)  # lets a run that starts have its turn
        raise RunError(_late())

    def _answer(
        self,
        companion: JsonlProcess,
        number: int,
        deadline: float,
        on_progress: Callable[[dict[str, Any]], None] | None,
    ) -> dict[str, Any]:
        while time.monotonic() < deadline:
            said = companion.receive(LISTEN_S)
            if said is not None and said.get("probe") == number:
                if "result" in said:
                    return dict(said["result"])
                if "error" in said:
                    raise _error(Problem(**said["error"]))
                if on_progress is not None:
                    on_progress(said["progress"])
            with self._turn:
                self._wanted = self._clock()
                if self._companion is companion and companion.alive:
                    continue
                raise self._gone(companion)
        with self._turn:
            # What does not answer would not answer the next one either.
            if self._companion is companion:
                self._forget()
                kill_tree(companion.identity)
                companion.close(0.0)
        raise RunError(_late())

    def take(self, folder: RunFolder) -> subprocess.Popen[bytes] | None:
        """Hand the run over to the spare and return its process, or None when it cannot take it.

        None means that nobody works on the run, and that nobody will.
        """
        with self._turn:
            self._hear(0.0)
            companion, was_ready = self._companion, self._is_ready
            said = size_of(folder.events)
            if companion is None:
                return None
            self._forget()
            if not was_ready:
                # The run begins cold, and two that import at once would take the cores in turns.
                companion.close(0.0)
                return None
            self._taken = companion, folder.id
            try:
                companion.send({"run": str(folder.path)})
            except RunError:
                companion.close(0.0)
                return None
            took = _takes(companion) and companion.wait_silent(HAND_OVER_S)
            if took or size_of(folder.events) > said:
                return companion.release()
            kill_tree(companion.identity)
            wait_ended(companion.identity, HAND_OVER_S)
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

    def _gone(self, companion: JsonlProcess) -> ForgeError:
        """Return why a spare does not answer any more."""
        taken, run = self._taken
        if taken is companion:
            what = "A run has just started, and comes first."
            return BusyError(Problem("worker", what, "Ask again in a moment."), run)
        return RunError(self._ended())

    def _no_spare(self) -> Problem:
        free, needed = self._available_gib(), self._policy.warm_above_gib
        if free <= needed:
            what = f"{free:.1f} GiB of memory are free; the worker that answers needs {needed:.1f}."
            return Problem("worker", what, "Wait for the run to end, or close other programs.")
        return self._ended()

    def _ended(self) -> Problem:
        return Problem(
            "worker",
            "The worker that answers such questions has ended.",
            f"What it printed is in {self._log.parent.name}/{self._log.name}.",
        )

    def _forget(self) -> None:
        self._companion, self._is_ready = None, False

    def _trim_log(self) -> None:
        if self._log.exists() and self._log.stat().st_size > LOG_LIMIT:
            self._log.unlink()


def _takes(companion: JsonlProcess) -> bool:
    """Wait for the spare's word that it takes the run; it then lets go of its stdout.

    That the pipe ends says nothing by itself: a spare that was killed ends it too.
    """
    deadline = time.monotonic() + HAND_OVER_S
    while (said := companion.receive(max(0.0, deadline - time.monotonic()))) is not None:
        if said.get("taken") is True:
            return True
    return False


def _error(problem: Problem) -> ForgeError:
    # What a spare has against a probe is about the data, unless the spare itself is at fault.
    return RunError(problem) if problem.where == "worker" else DataError(problem)


def _late() -> Problem:
    return Problem("worker", "The answer took too long.", "Ask for less, or ask again.")
