"""The warm worker: a process that has imported the training stack and waits for a run."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
HAND_OVER_TIMEOUT_S = 5.0
POLL_S = 0.1
# Probes that are answered or wait for their turn; each occupies a thread of the server.
MAX_PROBES = 5
MAX_LOG_BYTES = 1_000_000


@dataclass(frozen=True)
class WarmWorkerPolicy:
    """When a warm worker is started and ended."""

    warm_above_gib: float = 3.0
    retire_below_gib: float = 1.5
    idle_s: float = 900.0
    # Delay after a worker that ended during its imports.
    retry_after_s: float = 60.0


def memory_available_gib() -> float:
    """Return the memory available without swapping."""
    return float(psutil.virtual_memory().available) / GIB


class WarmWorker:
    """At most one waiting worker. Without it, starts take longer. Thread-safe."""

    def __init__(
        self,
        home: Home,
        *,
        command: Sequence[str] = COMMAND,
        environment: Callable[[], Mapping[str, str]] = dict,
        clock: Callable[[], float] = time.monotonic,
        available_gib: Callable[[], float] = memory_available_gib,
        policy: WarmWorkerPolicy | None = None,
    ) -> None:
        self._home = home
        self._log = home.logs / "spare.log"
        self._command = list(command)
        self._environment = environment
        self._clock = clock
        self._available_gib = available_gib
        self._policy = policy or WarmWorkerPolicy()
        self._lock = threading.RLock()
        self._process: JsonlProcess | None = None
        self._is_ready = False
        self._last_used, self._probe_count = 0.0, 0
        self._retry_at: float | None = None
        self._probe_lock = threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_PROBES)
        self._taken: tuple[JsonlProcess | None, str] = (None, "")

    @property
    def ready(self) -> bool:
        """Whether a worker has finished its imports."""
        with self._lock:
            self._receive_ready(0.0)
            return self._is_ready

    @property
    def pid(self) -> int | None:
        """The pid of the worker, or None."""
        with self._lock:
            return self._process.pid if self._process else None

    def warm(self) -> bool:
        """Start a worker if there is none and the memory suffices; return whether there is one.

        Returns at once; see `ready`.
        """
        with self._lock:
            now = self._clock()
            self._receive_ready(0.0)
            self._last_used = now
            if self._process is not None:
                return True
            if self._retry_at is not None and now < self._retry_at:
                return False
            if self._available_gib() <= self._policy.warm_above_gib:
                return False
            try:
                if size_of(self._log) > MAX_LOG_BYTES:
                    self._log.unlink()
                variables = {**child_environment(self._home), **self._environment()}
                self._process = JsonlProcess(self._command, self._log, environment=variables)
            except (RunError, OSError):
                self._retry_at = now + self._policy.retry_after_s
                return False
            return True

    def ask(
        self,
        probe: dict[str, Any],
        timeout_s: float,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Return the answer to a probe; a worker is started if there is none.

        Raises BusyError while another probe is answered or when a run starts, RunError if no
        worker is available, it ends or does not answer in time, and DataError if the probe fails.
        """
        deadline = time.monotonic() + timeout_s
        if not self._places.acquire(blocking=False):
            raise _busy("Several requests about the data are in progress.")
        try:
            return self._ask_in_turn(probe, deadline, on_progress)
        finally:
            self._places.release()

    def _ask_in_turn(
        self,
        probe: dict[str, Any],
        deadline: float,
        on_progress: Callable[[dict[str, Any]], None] | None,
    ) -> dict[str, Any]:
        if not self._probe_lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise _busy("Another request about the data is in progress.")
        try:
            process = self._wait_until_ready(deadline)
            self._probe_count += 1
            number = self._probe_count
            with self._lock:
                if self._process is not process:
                    raise self._gone(process)
                process.send({"probe": {**probe, "id": number}})
            return self._answer(process, number, deadline, on_progress)
        finally:
            self._probe_lock.release()

    def _wait_until_ready(self, deadline: float) -> JsonlProcess:
        """Return the worker when its imports are done."""
        if not self.warm():
            raise RunError(self._unavailable())
        while time.monotonic() < deadline:
            with self._lock:
                self._receive_ready(POLL_S)
                process = self._process
                if process is None:
                    raise RunError(self._ended())
                if self._is_ready:
                    return process
            time.sleep(0)  # lets a starting run take the lock
        raise RunError(_late())

    def _answer(
        self,
        process: JsonlProcess,
        number: int,
        deadline: float,
        on_progress: Callable[[dict[str, Any]], None] | None,
    ) -> dict[str, Any]:
        while time.monotonic() < deadline:
            message = process.receive(POLL_S)
            if message is not None and message.get("probe") == number:
                if "result" in message:
                    return dict(message["result"])
                if "error" in message:
                    raise _error(Problem(**message["error"]))
                if on_progress is not None:
                    on_progress(message["progress"])
            with self._lock:
                self._last_used = self._clock()
                if self._process is process and process.alive:
                    continue
                raise self._gone(process)
        with self._lock:
            # A worker that does not answer in time would block the next probe.
            if self._process is process:
                self._forget()
                kill_tree(process.identity)
                process.close(0.0)
        raise RunError(_late())

    def take(self, folder: RunFolder) -> subprocess.Popen[bytes] | None:
        """Hand a run over to the worker and return its process; None if it does not take the run.

        After None no process works on the run.
        """
        with self._lock:
            self._receive_ready(0.0)
            process, was_ready = self._process, self._is_ready
            size_before = size_of(folder.events)
            if process is None:
                return None
            self._forget()
            if not was_ready:
                # The run starts in a new process, and two imports at once would share the cores.
                process.close(0.0)
                return None
            self._taken = process, folder.id
            try:
                process.send({"run": str(folder.path)})
            except RunError:
                process.close(0.0)
                return None
            took = _accepts_run(process) and process.wait_stdout_closed(HAND_OVER_TIMEOUT_S)
            if took or size_of(folder.events) > size_before:
                return process.release()
            kill_tree(process.identity)
            wait_ended(process.identity, HAND_OVER_TIMEOUT_S)
            process.close(0.0)
            return None

    def tend(self, now: float | None = None) -> None:
        """End an unused worker, or any worker if memory is short."""
        with self._lock:
            self._receive_ready(0.0)
            if self._process is None:
                return
            unused_s = (self._clock() if now is None else now) - self._last_used
            short = self._available_gib() < self._policy.retire_below_gib
            if short or unused_s > self._policy.idle_s:
                self.close()

    def close(self) -> None:
        """End the worker, if there is one."""
        with self._lock:
            process = self._process
            self._forget()
            if process is not None:
                process.close()

    def _receive_ready(self, timeout_s: float) -> None:
        """Read whether the worker is ready, and forget one that has ended."""
        process = self._process
        if process is None:
            return
        deadline = time.monotonic() + timeout_s
        while not self._is_ready:
            message = process.receive(max(0.0, deadline - time.monotonic()))
            if message is None:
                break
            self._is_ready = message.get("ready") is True
        if not process.alive:
            if not self._is_ready:
                self._retry_at = self._clock() + self._policy.retry_after_s
            self._forget()
            process.close(0.0)

    def _gone(self, process: JsonlProcess) -> ForgeError:
        """Return why a worker does not answer any more."""
        taken, run = self._taken
        if taken is process:
            what = "A run has just started and uses the worker."
            return BusyError(Problem("worker", what, "Try again in a moment."), run)
        return RunError(self._ended())

    def _unavailable(self) -> Problem:
        free, needed = self._available_gib(), self._policy.warm_above_gib
        if free <= needed:
            what = f"{free:.1f} GiB of memory are free; the worker needs {needed:.1f} GiB."
            return Problem("worker", what, "Wait for the run to end, or close other programs.")
        return self._ended()

    def _ended(self) -> Problem:
        return Problem(
            "worker",
            "The worker that answers such requests has ended.",
            f"Its output is in {self._log.parent.name}/{self._log.name}.",
        )

    def _forget(self) -> None:
        self._process, self._is_ready = None, False


def _accepts_run(process: JsonlProcess) -> bool:
    """Wait for the message that the worker takes the run, before it closes its stdout.

    The end of stdout alone is not enough: it also ends when the worker is killed.
    """
    deadline = time.monotonic() + HAND_OVER_TIMEOUT_S
    while (message := process.receive(max(0.0, deadline - time.monotonic()))) is not None:
        if message.get("taken") is True:
            return True
    return False


def _error(problem: Problem) -> ForgeError:
    # Errors of a probe concern the data unless the worker itself is the cause.
    return RunError(problem) if problem.where == "worker" else DataError(problem)


def _busy(what: str) -> BusyError:
    return BusyError(Problem("worker", what, "Try again in a moment."), "")


def _late() -> Problem:
    return Problem(
        "worker", "The worker did not answer in time.", "Ask for fewer rows, or try again."
    )
