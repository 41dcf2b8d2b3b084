"""A child process that is spoken to in JSON lines, and ends when this process does."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelforge.errors import Problem, RunError
from modelforge.runs.atomic_files import disk_error
from modelforge.runs.process.identity import (
    CHILDREN,
    ProcessIdentity,
    kill_tree,
    new_session_options,
)

GRACE_S = 2.0


class JsonlProcess:
    """Speaks over stdin and stdout; the child's stderr goes to a file.

    The child sees its stdin end when we close or die, and is to exit then. Lines on its stdout
    that are no JSON object are passed over: libraries print.
    """

    def __init__(
        self,
        command: Sequence[str],
        log_path: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log_path
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._silent = threading.Event()
        self._speaking = threading.Lock()
        try:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            with log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=dict(environment) if environment is not None else None,
                    **new_session_options(),
                )
        except OSError as error:
            raise _no_start(command, error, log_path) from error
        CHILDREN.add(self._process)
        self.identity = ProcessIdentity.of(self._process.pid)
        self._reader = threading.Thread(target=self._listen, name="companion", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        """Say one thing; raises RunError when the process no longer listens."""
        stdin = self._process.stdin
        assert stdin is not None, "a companion has a pipe"
        line = json.dumps(message).encode() + b"\n"
        with self._speaking:
            try:
                stdin.write(line)
                stdin.flush()
            except (OSError, ValueError) as error:
                raise RunError(self._ended()) from error

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next thing said; None after the timeout, or when nothing more can come."""
        deadline = time.monotonic() + timeout_s
        try:
            said = self._said.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        if said is None:
            self._said.put(None)
            # The end of the words comes a moment before the end of the process.
            self._wait(min(GRACE_S, max(0.0, deadline - time.monotonic())))
        return said

    def wait_silent(self, timeout_s: float) -> bool:
        """Wait until the process has let go of its stdout; return whether it has."""
        return self._silent.wait(timeout_s)

    def release(self) -> subprocess.Popen[bytes]:
        """Let the process go its own way and return it. To be called once it is silent."""
        self._close_stdin()
        return self._process

    def close(self, grace_s: float = GRACE_S) -> None:
        """End the process: by the end of its stdin, and after the grace by force."""
        said_so = self._close_stdin()
        if not (said_so and self._wait(grace_s)):
            kill_tree(self.identity)
            self._wait(GRACE_S)
            self._close_stdin()
        self._reader.join(GRACE_S)

    def _wait(self, limit_s: float) -> bool:
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _listen(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None, "a companion has a pipe"
        with stdout:
            for line in stdout:
                said = _object_in(line)
                if said is not None:
                    self._said.put(said)
        self._silent.set()
        self._said.put(None)

    def _close_stdin(self) -> bool:
        """Close the pipe to the child; return False while a send is stuck in it."""
        stdin = self._process.stdin
        assert stdin is not None, "a companion has a pipe"
        if not self._speaking.acquire(timeout=GRACE_S):
            return False
        try:
            with contextlib.suppress(OSError):
                stdin.close()
        finally:
            self._speaking.release()
        return True

    def _ended(self) -> Problem:
        code = self._process.poll()
        how = "no longer listens" if code is None else f"has ended with code {code}"
        return Problem(
            self._log.stem,
            f"The process {how}.",
            f"What it printed is in {self._log.parent.name}/{self._log.name}.",
        )


def _no_start(command: Sequence[str], error: OSError, log: Path) -> RunError:
    if error.filename is not None and Path(str(error.filename)) != Path(command[0]):
        return disk_error(error, log)
    what = f"{command[0]} cannot be started: {error.strerror or type(error).__name__}."
    return RunError(Problem(log.stem, what, "Set ModelForge up again: python launch.py setup."))


def _object_in(line: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
