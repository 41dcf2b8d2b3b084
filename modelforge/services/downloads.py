"""Download models of the Hub, one at a time, with progress and cancellation."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from modelforge.config.schema.base import about
from modelforge.errors import BusyError, ConfigError, Problem
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home
from modelforge.runs.process.identity import child_environment
from modelforge.runs.process.jsonl_process import JsonlProcess
from modelforge.units import human_bytes

COMMAND = (sys.executable, "-m", "modelforge.models.hub_download")
# Without progress for this long, the child is ended.
STALLED_S = 300.0

DownloadState = Literal["running", "finished", "failed", "cancelled"]


@dataclass(frozen=True)
class Download:
    """The download of a model. Sizes are bytes."""

    model: str
    state: DownloadState
    done: int
    total: int
    seconds_left: Annotated[float | None, about("Estimated at the present rate; null if unknown.")]
    problem: Annotated[Problem | None, about("Why it failed.")] = None


class DownloadService:
    """Downloads models in a process of their own. Thread-safe."""

    def __init__(
        self, home: Home, find_model: Callable[[str], ModelInfo], command: Sequence[str] = COMMAND
    ) -> None:
        self._home = home
        self._find_model = find_model
        self._command = command
        self._lock = threading.Lock()
        self._process: JsonlProcess | None = None
        self._current: Download | None = None

    def current(self) -> Download | None:
        """Return the download in progress, or the last one; None before the first."""
        return self._current

    def start(self, name: str) -> Download:
        """Download a model; keep the complete files of a download that was interrupted.

        Raises BusyError while another one is in progress, ConfigError for a model that is here
        already or too large for the disk, and what looking it up raises.
        """
        from modelforge.models.hub_download import RESERVE_BYTES, free_bytes  # noqa: PLC0415 - httpx

        facts = self._find_model(name)
        if facts.local:
            what = f"{name} is stored on this computer already."
            raise ConfigError(Problem("model_name", what, "Use it."))
        if (free := free_bytes()) < facts.download_bytes + RESERVE_BYTES:
            needed = f"{human_bytes(facts.download_bytes)} and {human_bytes(RESERVE_BYTES)} spare"
            what = f"{name} needs {needed}; {human_bytes(free)} of disk space are free."
            remedy = "Free disk space, or set HF_HOME to a larger disk."
            raise ConfigError(Problem("model_name", what, remedy))
        with self._lock:
            self.require_none_of(None)
            self._process = process = JsonlProcess(
                [*self._command, name],
                self._home.logs / "download.log",
                environment=child_environment(self._home),
            )
            self._current = Download(name, "running", 0, facts.download_bytes, None)
        threading.Thread(target=self._follow, args=(process,), daemon=True).start()
        return self._current

    def require_none_of(self, names: Sequence[str] | None) -> None:
        """Raise BusyError while one of these models, or any for None, is being downloaded."""
        running = self._current
        if running and running.state == "running" and (names is None or running.model in names):
            what = f"{running.model} is being downloaded."
            raise BusyError(Problem("model_name", what, "Wait for it, or cancel it."), "")

    def cancel(self) -> None:
        """End the download; files that are complete are kept for the next one."""
        with self._lock:
            process = self._process
            if process and self._current and self._current.state == "running":
                self._current = replace(self._current, state="cancelled", seconds_left=None)
        if process:
            self._close(process)

    def close(self) -> None:
        """End the download with the server."""
        self.cancel()

    def _follow(self, process: JsonlProcess) -> None:
        first: tuple[float, int] | None = None
        while message := process.receive(STALLED_S):
            if "finished" in message:
                self._end("finished")
            elif isinstance(problem := message.get("problem"), dict):
                self._end("failed", Problem(**problem))
            else:
                total = int(message["total"])
                done = min(int(message["done"]), total)
                first = first or (time.monotonic(), done)
                self._report(done, total, _seconds_left(first, done, total))
        what = "The download has ended unexpectedly."
        remedy = "Start it again; `logs/download.log` has its output."
        self._end("failed", Problem("model_name", what, remedy))
        self._close(process)

    def _close(self, process: JsonlProcess) -> None:
        """End a process; one that has to be killed leaves an unfinished file."""
        from modelforge.models.hub_download import remove_partial_files  # noqa: PLC0415 - httpx

        process.close()
        with self._lock:
            # Not while another download may be writing the same file.
            if self._process is process and self._current:
                remove_partial_files(self._current.model)

    def _report(self, done: int, total: int, seconds_left: float | None) -> None:
        with self._lock:
            if self._current and self._current.state == "running":
                current = replace(self._current, done=done, total=total)
                self._current = replace(current, seconds_left=seconds_left)

    def _end(self, state: DownloadState, problem: Problem | None = None) -> None:
        with self._lock:
            if self._current and self._current.state == "running":
                ended = replace(self._current, state=state, seconds_left=None, problem=problem)
                self._current = ended


def _seconds_left(first: tuple[float, int], done: int, total: int) -> float | None:
    seconds, count = time.monotonic() - first[0], done - first[1]
    return (total - done) * seconds / count if count > 0 and seconds > 1 else None
