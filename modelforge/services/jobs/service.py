"""Queue jobs of one kind, start them one at a time, and list, stop and delete them."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

from modelforge.errors import BusyError, ConfigError, ForgeError, NotFoundError, Problem
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error, write_json, write_text
from modelforge.runs.jobs import FolderT, JobRecord, JobState, job_folders
from modelforge.runs.store import GONE, STAGING, STALE_S, is_id
from modelforge.services.chat import ChatService
from modelforge.services.jobs.process import JobProcesses
from modelforge.services.runs import LOG_BYTES, log_tail
from modelforge.services.start import RunLauncher

# The fact of a record that keeps a second request from starting a second job.
REQUEST_ID = "request_id"
Guard = Callable[[str], None]


class JobView(Protocol):
    """What every view of a job has."""

    @property
    def run(self) -> str:
        """Id of the run."""


ViewT = TypeVar("ViewT", bound=JobView)


class JobService(ABC, Generic[FolderT, ViewT]):
    """The jobs of one kind in a home. Thread-safe; several servers may share a home.

    Each guard is called with the id of a job that is to be deleted, and raises BusyError if it is
    in use.
    """

    # The remedy where a job cannot be done as it was asked for.
    AGAIN: ClassVar[str]

    def __init__(
        self,
        kind: type[FolderT],
        parent: Path,
        home: Home,
        launcher: RunLauncher,
        chat: ChatService,
        command: Sequence[str],
    ) -> None:
        self._kind = kind
        self._parent = parent
        self._launcher = launcher
        self._chat = chat
        self._processes = JobProcesses(home, parent, kind, command)
        self._lock = threading.Lock()
        # Ids of jobs that are over and have left nothing behind.
        self._settled: set[str] = set()
        self._is_swept = False
        self.guards: list[Guard] = []

    # What the kinds of jobs have of their own

    @abstractmethod
    def _read(self, folder: FolderT, queued_behind: str) -> ViewT | None:
        """Return the view of a job; None if its record is missing or damaged."""

    @abstractmethod
    def _refreshed(self, folder: FolderT) -> JobRecord | None:
        """Return the record of a queued job with the facts of this moment; None if damaged.

        Raises ForgeError if the job is not possible any more.
        """

    @abstractmethod
    def _write_failed(self, folder: FolderT, problem: Problem) -> None:
        """Write the result of a job that cannot be started."""

    # Start

    def _queue(self, request_id: str | None, record: Callable[[], JobRecord]) -> ViewT:
        """Queue a job and return it; the one of the same request if there is one.

        Raises what `record` does, and RunError if its folder cannot be written.
        """
        folder = self._create_once(request_id, record)
        self.tend()
        return self.view(folder.id)

    def _create_once(self, request_id: str | None, record: Callable[[], JobRecord]) -> FolderT:
        folder = self._find_request(request_id)
        if folder is None:
            made = record()
            with self._launcher.claim():
                folder = self._find_request(request_id) or self._create(made)
        return folder

    def _find_request(self, request_id: str | None) -> FolderT | None:
        for folder in self._folders() if request_id else ():
            record = folder.record()
            if record is not None and record.facts.get(REQUEST_ID) == request_id:
                return folder
        return None

    def _create(self, record: JobRecord) -> FolderT:
        """Write the record into a new folder, which appears complete."""
        # With milliseconds, so that names are in the order of the queue.
        stamp = datetime.fromtimestamp(record.created, UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        job_id = f"{stamp}{secrets.token_hex(2)}"
        target = self._parent / job_id
        staged = self._kind(self._parent / f"{STAGING}{job_id}")
        try:
            staged.path.mkdir(parents=True)
            write_json(staged.record_file, record.as_dict())
            staged.path.rename(target)
        except OSError as error:
            raise disk_error(error, target) from error
        finally:
            shutil.rmtree(staged.path, ignore_errors=True)
        return self._kind(target)

    # Read

    def list(self, run_id: str | None = None) -> list[ViewT]:
        """Return the jobs, the newest first; of one run if it is given."""
        folders = self._folders()
        views = [self._view(folder, folders) for folder in reversed(folders)]
        return [view for view in views if view and run_id in (None, view.run)]

    def view(self, job_id: str) -> ViewT:
        """Return a job; raises NotFoundError."""
        view = self._view(self.folder(job_id), self._folders())
        if view is None:
            raise self._unknown(job_id)
        return view

    def folder(self, job_id: str) -> FolderT:
        """Return the folder of a job; raises NotFoundError, also for ids that are paths."""
        folder = self._kind(self._parent / job_id)
        if not is_id(job_id) or folder.path.is_symlink() or not folder.record_file.is_file():
            raise self._unknown(job_id)
        return folder

    def log(self, job_id: str, tail_bytes: int = LOG_BYTES) -> str:
        """Return the end of the output of the job's process."""
        return log_tail(self.folder(job_id).log, tail_bytes)

    def active(self) -> str | None:
        """Return the id of the job that is in progress, or None."""
        for folder in self._folders():
            if folder.id not in self._settled and folder.state() is JobState.RUNNING:
                return folder.id
        return None

    def _folders(self) -> Sequence[FolderT]:
        return job_folders(self._parent, self._kind)

    def _view(self, folder: FolderT, folders: Sequence[FolderT]) -> ViewT | None:
        is_queued = folder.state() is JobState.QUEUED
        return self._read(folder, self._waits_for(folder, folders) if is_queued else "")

    def _waits_for(self, folder: FolderT, folders: Sequence[FolderT]) -> str:
        for other in folders:
            if other.id == folder.id or other.id in self._settled:
                continue
            state = other.state()
            is_earlier = state is JobState.QUEUED and other.id < folder.id
            if (is_earlier or state is JobState.RUNNING) and (record := other.record()):
                verb = "is in progress" if state is JobState.RUNNING else "comes first"
                return f"Another {folder.NOUN} of “{record.run_name}” {verb}."
        return self._busy_reason()

    def _busy_reason(self) -> str:
        """Return who uses this computer, as a sentence; empty if a job can start."""
        try:
            self._launcher.require_free()
            # Our own chat holds another token; it is closed unless it answers just now.
            return self._chat.in_use if self._chat.is_answering else ""
        except BusyError as error:
            return error.problems[0].sentence

    # Stop and delete

    def stop(self, job_id: str) -> ViewT:
        """Stop a job that waits or is in progress; return its state then."""
        folder = self.folder(job_id)
        with self._launcher.claim():
            if not folder.state().is_over:
                write_text(folder.stop_file, "")
                self._processes.end(folder)
        self._settle(folder)
        return self.view(job_id)

    def delete(self, job_id: str) -> None:
        """Delete a job and its files; raises BusyError while it is in progress or in use."""
        folder = self.folder(job_id)
        for guard in self.guards:
            guard(job_id)
        with self._launcher.claim():
            if folder.state() is JobState.RUNNING:
                record = folder.record()
                name = record.run_name if record else job_id
                what = f"The {folder.NOUN} of “{name}” is in progress, so it cannot be deleted."
                raise BusyError(Problem(folder.NOUN, what, "Stop it first."), job_id)
            self._processes.end(folder)
            # One rename, so that a partly deleted job is never listed.
            gone = self._parent / f"{GONE}{job_id}-{secrets.token_hex(2)}"
            try:
                folder.path.rename(gone)
            except OSError as error:
                raise disk_error(error, folder.path) from error
        shutil.rmtree(gone, ignore_errors=True)

    # Housekeeping

    def tend(self) -> None:
        """Start the next queued job, and clean up after those that have ended."""
        with self._lock:
            self._sweep()
            self._queue_due()
            waiting = None
            for folder in self._folders():
                if folder.id in self._settled:
                    continue
                state = folder.state()
                if state.is_over:
                    self._settle(folder)
                elif state is JobState.RUNNING:
                    self._processes.watch(folder)
                    return
                elif waiting is None:
                    waiting = folder
            if waiting is not None and not self._busy_reason():
                self._start_next(waiting)

    def close(self) -> None:
        """End the process of this server; its job is queued again for the next one."""
        self._processes.close()

    def _queue_due(self) -> None:
        """Queue the jobs that begin by themselves; there are none by default."""

    def _start_next(self, folder: FolderT) -> None:
        """Start the process of a queued job, unless something else has taken the computer."""
        with contextlib.suppress(BusyError), self._launcher.claim():
            # It may have been deleted meanwhile.
            if not folder.record_file.is_file() or folder.state() is not JobState.QUEUED:
                return
            self._launcher.require_free()
            try:
                # The run or its base model may have changed while the job waited.
                record = self._refreshed(folder)
                if record is None:
                    what = f"The record of the {folder.NOUN} cannot be read."
                    raise ConfigError(Problem(folder.NOUN, what, self.AGAIN))
                if self._chat.is_answering:
                    return
                self._chat.close()
                write_json(folder.record_file, record.as_dict())
                self._processes.launch(folder, record)
            except BusyError:
                raise
            except ForgeError as error:
                self._write_failed(folder, error.problems[0])

    def _sweep(self) -> None:
        """Remove what an interrupted start or deletion has left."""
        if self._is_swept:
            return
        self._is_swept = True
        for start in (STAGING, GONE):
            for path in self._parent.glob(f"{start}*"):
                # Another server may remove it too.
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.lstat().st_mtime > STALE_S:
                        shutil.rmtree(path, ignore_errors=True)

    def _settle(self, folder: FolderT) -> None:
        if self._processes.clean(folder):
            self._settled.add(folder.id)

    def _unknown(self, job_id: str) -> NotFoundError:
        noun = self._kind.NOUN
        what = f"There is no {noun} {job_id[:80]!r}."
        return NotFoundError(Problem(noun, what, f"`modelforge {noun}s list` shows all of them."))
