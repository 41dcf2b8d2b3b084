"""Export runs in a process of its own, one at a time, with a prediction of size and duration."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from modelforge.errors import BusyError, ConfigError, ForgeError, NotFoundError, Problem
from modelforge.runs.atomic_files import disk_error, write_json, write_text
from modelforge.runs.exports import (
    ExportFolder,
    ExportRecord,
    ExportRequest,
    ExportResult,
    write_result,
)
from modelforge.runs.jobs import JobState, job_folders
from modelforge.runs.store import GONE, STAGING, STALE_S, is_id
from modelforge.services.chat import ChatService
from modelforge.services.exports.prediction import FORMULA, predict
from modelforge.services.exports.process import Exporters
from modelforge.services.exports.sources import ExportSources, SourceFinder, require_packages
from modelforge.services.exports.view import ExportView, Prediction, export_name, view_export
from modelforge.services.exports.zip_stream import zip_chunks
from modelforge.services.runs import LOG_BYTES, log_tail
from modelforge.services.start import RunLauncher
from modelforge.units import MIB, human_bytes

# Disk space that an export leaves free.
RESERVE_BYTES = 512 * MIB
REQUEST_ID = "request_id"
# What was written → the kind of a repository of the Hub.
CONTENTS: dict[str, Literal["adapter", "merged", "gguf"]] = {
    "adapter": "adapter",
    "merged": "merged",
    "mlx": "merged",
    "gguf": "gguf",
    "ollama": "gguf",
}
Guard = Callable[[str], None]


class ExportService:
    """The exports of a home. Thread-safe; several servers may share a home.

    Each guard is called with the id of an export that is to be deleted, and raises BusyError if it
    is in use.
    """

    def __init__(
        self,
        finder: SourceFinder,
        launcher: RunLauncher,
        chat: ChatService,
        command: Sequence[str],
        *guards: Guard,
    ) -> None:
        self._home = finder.home
        self._finder = finder
        self._launcher = launcher
        self._chat = chat
        self._exporters = Exporters(self._home, command)
        self._lock = threading.Lock()
        # Ids of exports that are over and have left nothing behind.
        self._settled: set[str] = set()
        self._is_swept = False
        self.guards: list[Guard] = list(guards)

    # Predict and start

    def predict(self, request: ExportRequest) -> Prediction:
        """Return what an export needs.

        Raises ConfigError, NotFoundError or BusyError with everything that is wrong with the
        request; a full disk and a missing package are left to `start`.
        """
        return self._plan(request)[1]

    def start(self, request: ExportRequest, request_id: str | None = None) -> ExportView:
        """Queue an export; `tend` starts it as soon as this computer is free.

        The same `request_id` never starts a second one. Raises what `predict` does,
        MissingPackageError, and ConfigError for too little disk space.
        """
        folder = self._find_request(request_id)
        if folder is None:
            record = self._record(request, request_id)
            with self._launcher.claim():
                folder = self._find_request(request_id) or self._create(record)
        self.tend()
        return self.view(folder.id)

    def push(self, export_id: str, repository: str, *, private: bool = True) -> ExportView:
        """Queue the upload of a finished export to the Hub, as it is; raises as `start` does."""
        record = self.folder(export_id).record()
        if record is None:
            raise _unknown(export_id)
        request = ExportRequest(
            record.request.run,
            "hub",
            quantization=record.request.quantization,
            content=CONTENTS[record.request.written],
            repository=repository,
            private=private,
            source=export_id,
        )
        return self.start(request)

    def _find_request(self, request_id: str | None) -> ExportFolder | None:
        for folder in self._folders() if request_id else ():
            record = folder.record()
            if record is not None and record.facts.get(REQUEST_ID) == request_id:
                return folder
        return None

    def _record(self, request: ExportRequest, request_id: str | None) -> ExportRecord:
        sources, prediction, formula = self._plan(request)
        require_packages(request)
        require_token(request)
        _require_space(prediction, self._home.exports)
        return ExportRecord(
            request=request,
            run_name=sources.name,
            stem=stem_of(sources.name, request.run),
            created=time.time(),
            bytes=prediction.bytes,
            disk_bytes=prediction.disk_bytes,
            memory_bytes=prediction.memory_bytes,
            seconds=prediction.seconds,
            facts=sources.facts() | {FORMULA: formula, REQUEST_ID: request_id},
        )

    def _plan(self, request: ExportRequest) -> tuple[ExportSources, Prediction, float]:
        """Return what an export reads, what it needs, and the duration before its correction."""
        sources = self._finder.find(request)
        name = export_name(request, stem_of(sources.name, request.run))
        earlier = reversed(self._folders())
        return sources, *predict(request, sources, name, self._home.exports, earlier)

    def _create(self, record: ExportRecord) -> ExportFolder:
        """Write the record into a new folder, which appears complete."""
        # With milliseconds, so that names are in the order of the queue.
        stamp = datetime.fromtimestamp(record.created, UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        export_id = f"{stamp}{secrets.token_hex(2)}"
        target = self._home.exports / export_id
        staged = ExportFolder(self._home.exports / f"{STAGING}{export_id}")
        try:
            staged.path.mkdir(parents=True)
            write_json(staged.record_file, record.as_dict())
            staged.path.rename(target)
        except OSError as error:
            raise disk_error(error, target) from error
        finally:
            shutil.rmtree(staged.path, ignore_errors=True)
        return ExportFolder(target)

    # Read

    def list(self, run_id: str | None = None) -> list[ExportView]:
        """Return the exports, the newest first; of one run if it is given."""
        folders = self._folders()
        views = [self._view(folder, folders) for folder in reversed(folders)]
        return [view for view in views if view and run_id in (None, view.run)]

    def view(self, export_id: str) -> ExportView:
        """Return an export; raises NotFoundError."""
        view = self._view(self.folder(export_id), self._folders())
        if view is None:
            raise _unknown(export_id)
        return view

    def folder(self, export_id: str) -> ExportFolder:
        """Return the folder of an export; raises NotFoundError, also for ids that are paths."""
        folder = ExportFolder(self._home.exports / export_id)
        if not is_id(export_id) or folder.path.is_symlink() or not folder.record_file.is_file():
            raise _unknown(export_id)
        return folder

    def path(self, export_id: str) -> Path:
        """Return where the files of an export are: `files`, or `not-usable` after a failed test.

        Raises NotFoundError for an unknown export, or one without files.
        """
        view = self.view(export_id)
        if view.path is None:
            what = f"The export of “{view.run_name}” has no files: it is {view.state}."
            raise NotFoundError(Problem("export", what, "Export the run again."))
        return Path(view.path)

    def zip_chunks(self, export_id: str) -> Iterator[bytes]:
        """Yield a zip of the files of an export, uncompressed; raises as `path` does."""
        return zip_chunks(self.path(export_id), self.view(export_id).name)

    def log(self, export_id: str, tail_bytes: int = LOG_BYTES) -> str:
        """Return the end of the exporter's output."""
        return log_tail(self.folder(export_id).log, tail_bytes)

    def active(self) -> str | None:
        """Return the id of the export that is in progress, or None."""
        for folder in self._folders():
            if folder.id not in self._settled and folder.state() is JobState.RUNNING:
                return folder.id
        return None

    def _folders(self) -> Sequence[ExportFolder]:
        return job_folders(self._home.exports, ExportFolder)

    def _view(self, folder: ExportFolder, folders: Sequence[ExportFolder]) -> ExportView | None:
        view = view_export(folder)
        if view is None or view.state is not JobState.QUEUED:
            return view
        return replace(view, queued_behind=self._waits_for(folder, folders))

    def _waits_for(self, folder: ExportFolder, folders: Sequence[ExportFolder]) -> str:
        for other in folders:
            if other.id == folder.id or other.id in self._settled:
                continue
            state = other.state()
            is_earlier = state is JobState.QUEUED and other.id < folder.id
            if (is_earlier or state is JobState.RUNNING) and (record := other.record()):
                verb = "is in progress" if state is JobState.RUNNING else "comes first"
                return f"Another export of “{record.run_name}” {verb}."
        return self._busy_reason()

    def _busy_reason(self) -> str:
        """Return who uses this computer, as a sentence; empty if an export can start."""
        try:
            self._launcher.require_free()
            # Our own chat holds another token; it is closed unless it answers just now.
            return self._chat.in_use if self._chat.is_answering else ""
        except BusyError as error:
            return error.problems[0].sentence

    # Stop and delete

    def stop(self, export_id: str) -> ExportView:
        """Stop an export that waits or is in progress; return its state then."""
        folder = self.folder(export_id)
        with self._launcher.claim():
            if not folder.state().is_over:
                write_text(folder.stop_file, "")
                self._exporters.end(folder)
        self._settle(folder)
        return self.view(export_id)

    def delete(self, export_id: str) -> None:
        """Delete an export and its files; raises BusyError while it is in progress or served."""
        folder = self.folder(export_id)
        for guard in self.guards:
            guard(export_id)
        with self._launcher.claim():
            if folder.state() is JobState.RUNNING:
                record = folder.record()
                name = record.run_name if record else export_id
                what = f"The export of “{name}” is in progress, so it cannot be deleted."
                raise BusyError(Problem("export", what, "Stop it first."), export_id)
            self._exporters.end(folder)
            # One rename, so that a partly deleted export is never listed.
            gone = self._home.exports / f"{GONE}{export_id}-{secrets.token_hex(2)}"
            try:
                folder.path.rename(gone)
            except OSError as error:
                raise disk_error(error, folder.path) from error
        shutil.rmtree(gone, ignore_errors=True)

    # Housekeeping

    def tend(self) -> None:
        """Start the next queued export, and clean up after those that have ended."""
        with self._lock:
            self._sweep()
            waiting = None
            for folder in self._folders():
                if folder.id in self._settled:
                    continue
                state = folder.state()
                if state.is_over:
                    self._settle(folder)
                elif state is JobState.RUNNING:
                    self._exporters.watch(folder)
                    return
                elif waiting is None:
                    waiting = folder
            if waiting is not None and not self._busy_reason():
                self._start_next(waiting)

    def close(self) -> None:
        """End the exporter of this server; its export is queued again for the next one."""
        self._exporters.close()

    def _start_next(self, folder: ExportFolder) -> None:
        """Start the exporter of a queued export, unless something else has taken the computer."""
        with contextlib.suppress(BusyError), self._launcher.claim():
            if folder.state() is not JobState.QUEUED:
                return
            self._launcher.require_free()
            record = folder.record()
            try:
                if record is None:
                    what = "The record of the export cannot be read."
                    raise ConfigError(Problem("export", what, "Export the run again."))
                # The run or its base model may have changed while the export waited.
                sources = self._finder.find(record.request, refresh=True)
                require_packages(record.request)
                self._chat.close()
                record = replace(record, facts=record.facts | sources.facts())
                write_json(folder.record_file, record.as_dict())
                self._exporters.launch(folder, record)
            except BusyError:
                raise
            except ForgeError as error:
                problem = error.problems[0]
                write_result(folder, ExportResult("failed", time.time(), problem=problem))

    def _sweep(self) -> None:
        """Remove what an interrupted start or deletion has left."""
        if self._is_swept:
            return
        self._is_swept = True
        for start in (STAGING, GONE):
            for path in self._home.exports.glob(f"{start}*"):
                if time.time() - path.stat().st_mtime > STALE_S:
                    shutil.rmtree(path, ignore_errors=True)

    def _settle(self, folder: ExportFolder) -> None:
        if self._exporters.clean(folder):
            self._settled.add(folder.id)


def stem_of(name: str, run_id: str) -> str:
    """Return the name of a run as the beginning of file names."""
    return re.sub(r"\W+", "-", name, flags=re.ASCII).strip("-_")[:60].rstrip("-_") or run_id


def require_token(request: ExportRequest) -> None:
    """Raise ConfigError if an upload has no token, which is otherwise noticed after the export."""
    if request.format != "hub":
        return
    from huggingface_hub import get_token  # noqa: PLC0415 - importing httpx takes 0.2 s

    if get_token() is None:
        what = "There is no token for the Hugging Face Hub."
        remedy = "Run `hf auth login` with a token that may write, or set HF_TOKEN."
        raise ConfigError(Problem("hub", what, remedy))


def _require_space(prediction: Prediction, exports: Path) -> None:
    if prediction.disk_bytes + RESERVE_BYTES > prediction.disk_free:
        needed = f"{human_bytes(prediction.disk_bytes)} and {human_bytes(RESERVE_BYTES)} spare"
        what = f"The export needs {needed}; {human_bytes(prediction.disk_free)} are free."
        remedy = f"Free disk space on the disk of {exports}, or choose a smaller format."
        raise ConfigError(Problem("disk", what, remedy))


def _unknown(export_id: str) -> NotFoundError:
    what = f"There is no export {export_id[:80]!r}."
    return NotFoundError(Problem("export", what, "`modelforge exports list` shows all of them."))
