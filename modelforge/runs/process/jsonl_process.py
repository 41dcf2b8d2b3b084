"""A child process with JSON lines on stdin and stdout; it ends when this process ends."""

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

CLOSE_TIMEOUT_S = 2.0


class JsonlProcess:
    """Send and receive JSON objects; the stderr of the child goes to a file.

    The child has to exit when its stdin ends, which also happens when this process dies. Lines
    that are not JSON objects are ignored, because libraries print.
    """

    def __init__(
        self,
        command: Sequence[str],
        log_path: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log_path
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._stdout_closed = threading.Event()
        self._send_lock = threading.Lock()
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
            raise _start_error(command, error, log_path) from error
        assert self._process.stdin is not None, "the process was started with pipes"
        assert self._process.stdout is not None, "the process was started with pipes"
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        CHILDREN.add(self._process)
        self.identity = ProcessIdentity.of(self._process.pid)
        self._reader = threading.Thread(target=self._read, name="jsonl-reader", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The pid."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; raises RunError if the process does not read any more."""
        line = json.dumps(message).encode() + b"\n"
        with self._send_lock:
            try:
                self._stdin.write(line)
                self._stdin.flush()
            except (OSError, ValueError) as error:
                raise RunError(self._ended()) from error

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next message; None after the timeout or when the stream has ended."""
        deadline = time.monotonic() + timeout_s
        try:
            message = self._messages.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        if message is None:
            self._messages.put(None)
            # stdout ends shortly before the process does.
            self._wait(min(CLOSE_TIMEOUT_S, max(0.0, deadline - time.monotonic())))
        return message

    def wait_stdout_closed(self, timeout_s: float) -> bool:
        """Wait until the process has closed its stdout; return whether it has."""
        return self._stdout_closed.wait(timeout_s)

    def release(self) -> subprocess.Popen[bytes]:
        """Detach the process and return it; call this when its stdout is closed."""
        self._close_stdin()
        return self._process

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Close stdin; kill the process if it does not exit within the timeout."""
        is_closed = self._close_stdin()
        if not (is_closed and self._wait(timeout_s)):
            kill_tree(self.identity)
            self._wait(CLOSE_TIMEOUT_S)
            self._close_stdin()
        self._reader.join(CLOSE_TIMEOUT_S)

    def _wait(self, timeout_s: float) -> bool:
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _read(self) -> None:
        with self._stdout:
            for line in self._stdout:
                message = _object_in(line)
                if message is not None:
                    self._messages.put(message)
        self._stdout_closed.set()
        self._messages.put(None)

    def _close_stdin(self) -> bool:
        """Close the stdin of the child; return False while a send is blocked."""
        if not self._send_lock.acquire(timeout=CLOSE_TIMEOUT_S):
            return False
        try:
            with contextlib.suppress(OSError):
                self._stdin.close()
        finally:
            self._send_lock.release()
        return True

    def _ended(self) -> Problem:
        code = self._process.poll()
        how = "does not read its input" if code is None else f"has ended with code {code}"
        return Problem(
            self._log.stem,
            f"The process {how}.",
            f"Its output is in {self._log.parent.name}/{self._log.name}.",
        )


def _start_error(command: Sequence[str], error: OSError, log: Path) -> RunError:
    if error.filename is not None and Path(str(error.filename)) != Path(command[0]):
        return disk_error(error, log)
    what = f"{command[0]} cannot be started: {error.strerror or type(error).__name__}."
    return RunError(Problem(log.stem, what, "Repeat the setup: python launch.py setup."))


def _object_in(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
