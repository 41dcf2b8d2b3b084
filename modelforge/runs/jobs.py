"""Jobs of a home besides runs, such as exports: the folder of each, its steps and its state.

The process of a job reports its steps as lines of `events.jsonl` and writes `result.json` last.
The state follows from these files and is stored nowhere.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from modelforge.errors import Problem
from modelforge.runs.atomic_files import find_json
from modelforge.runs.process.identity import CHILDREN, ProcessIdentity

# A process that has written its result exits at once; one that does not is ended.
EXIT_TIMEOUT_S = 15.0
Parsed = TypeVar("Parsed")


class JobState(StrEnum):
    """State of a job. `lost`: the process ended without a result."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class JobStep:
    """A step of a job: its text, its share in 0 to 1, and the seconds it has taken."""

    step: str
    text: str
    share: float
    seconds: float


class JobRequest(Protocol):
    """What was asked for."""

    @property
    def run(self) -> str:
        """Id of the run."""

    def uses(self, run_id: str) -> bool:
        """Return whether the job reads this run."""


class JobRecord(Protocol):
    """The record of a job: what was asked for, and what was predicted."""

    @property
    def request(self) -> JobRequest:
        """What was asked for."""

    @property
    def run_name(self) -> str:
        """Name of the run when the job was made."""

    @property
    def created(self) -> float:
        """Unix time in seconds."""

    @property
    def seconds(self) -> float:
        """Predicted duration."""

    @property
    def facts(self) -> dict[str, Any]:
        """Facts for the process that only the service can find."""

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""


class JobResult(Protocol):
    """How a job ended."""

    @property
    def state(self) -> str:
        """`finished` or `failed`."""

    @property
    def ended(self) -> float:
        """Unix time in seconds."""

    @property
    def problem(self) -> Problem | None:
        """Why it failed."""


@dataclass(frozen=True)
class JobFolder(ABC):
    """The folder of a job; its name is the job's id. Subclasses name its record and its log."""

    path: Path

    # The kind of job, its participle and its process in messages, and the names of its files.
    NOUN: ClassVar[str]
    DONE: ClassVar[str]
    PROCESS: ClassVar[str]
    RECORD: ClassVar[str]
    LOG: ClassVar[str]

    @property
    def id(self) -> str:
        """Id of the job."""
        return self.path.name

    @property
    def record_file(self) -> Path:
        """What was asked for; written by the service, once."""
        return self.path / self.RECORD

    @property
    def process_file(self) -> Path:
        """Identity of the process; written by the service."""
        return self.path / "process.json"

    @property
    def stop_file(self) -> Path:
        """Exists if the user stopped the job; written by the service."""
        return self.path / "stop"

    @property
    def events(self) -> Path:
        """Steps of the process as JSON lines."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """Output of the process."""
        return self.path / self.LOG

    @property
    def result_file(self) -> Path:
        """How the job ended; the last file that the process writes."""
        return self.path / "result.json"

    @property
    def temporary(self) -> tuple[Path, ...]:
        """What is removed when the job is over."""
        return ()

    @property
    def untested(self) -> tuple[Path, ...]:
        """What is removed as well when the job is over without a result."""
        return ()

    @abstractmethod
    def record(self) -> JobRecord | None:
        """Return the record; None if it is missing or damaged."""

    @abstractmethod
    def result(self) -> JobResult | None:
        """Return the result; None before the end."""

    def state(self) -> JobState:
        """Return the state that follows from the files and the process.

        A job is over once its process has ended: until then it still uses this computer.
        """
        if result := self.result():
            return JobState.RUNNING if self._is_ending(result) else JobState(result.state)
        if self.stop_file.exists():
            return JobState.STOPPED
        CHILDREN.reap()
        recorded = find_json(self.process_file)
        if recorded is None:
            return JobState.QUEUED
        who = ProcessIdentity.from_dict(recorded)
        return JobState.RUNNING if who and who.alive else JobState.LOST

    def process(self) -> ProcessIdentity | None:
        """Return the process of the job; None if it was never started."""
        return ProcessIdentity.from_dict(find_json(self.process_file) or {})

    def _is_ending(self, result: JobResult) -> bool:
        """Return whether the process has just written its result and is still there."""
        if time.time() - result.ended >= EXIT_TIMEOUT_S:
            return False
        CHILDREN.reap()
        who = self.process()
        return who is not None and who.alive

    def steps(self) -> list[JobStep]:
        """Return the steps so far, each with its newest share; half-written lines are left out."""
        steps: dict[str, JobStep] = {}
        for line in _lines(self.events):
            steps[line.step] = line
        return list(steps.values())


FolderT = TypeVar("FolderT", bound=JobFolder)


class StepWriter:
    """Writes the steps of a job. A line is one write, so that readers see whole lines."""

    def __init__(self, path: Path) -> None:
        self._path, self._step, self._text = path, "", ""
        self._began = self._written = 0.0

    def begin(self, step: str, text: str) -> None:
        """Begin a step; the one before it is complete."""
        if self._step:
            self._write(1.0)
        self._step, self._text, self._began = step, text, time.monotonic()
        self._write(0.0)

    def share(self, share: float) -> None:
        """Report the share of the current step, at most five times a second."""
        if share >= 1 or time.monotonic() - self._written > 0.2:
            self._write(min(share, 1.0))

    def end(self) -> None:
        """Complete the last step."""
        if self._step:
            self._write(1.0)

    def _write(self, share: float) -> None:
        self._written = time.monotonic()
        seconds = round(self._written - self._began, 2)
        step = JobStep(self._step, self._text, round(share, 4), seconds)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        file = os.open(self._path, flags, 0o600)
        try:
            os.write(file, json.dumps(asdict(step)).encode() + b"\n")
        finally:
            os.close(file)


def parse_file(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> Parsed | None:
    """Return what `parse` makes of a JSON file; None if the file is missing or damaged."""
    data = find_json(path)
    try:
        return parse(data) if data else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def job_folders(parent: Path, kind: type[FolderT]) -> list[FolderT]:
    """Return the jobs in a folder, the oldest first; folders without a record are none."""
    try:
        names = sorted(path.name for path in parent.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
    folders = [kind(parent / name) for name in names]
    return [folder for folder in folders if folder.record_file.is_file()]


def unfinished(parent: Path, kind: type[FolderT]) -> list[tuple[FolderT, JobRecord]]:
    """Return the jobs in a folder that wait or are in progress."""
    found = []
    for folder in job_folders(parent, kind):
        is_open = not folder.result_file.exists() and not folder.state().is_over
        if is_open and (record := folder.record()):
            found.append((folder, record))
    return found


def queue_again(folder: JobFolder) -> None:
    """Put a job whose process ends with its server back into the queue, unless it is over."""
    if folder.result_file.exists():
        return
    for path in (*folder.temporary, *folder.untested):
        shutil.rmtree(path, ignore_errors=True)
    folder.events.unlink(missing_ok=True)
    # Without the record of its process, the job is queued.
    folder.process_file.unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[JobStep]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield JobStep(**json.loads(line))
        except (ValueError, TypeError):
            continue
