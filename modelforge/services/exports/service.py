"""Export runs in a process of its own, one at a time, with a prediction of size and duration."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from modelforge.errors import ConfigError, NotFoundError, Problem
from modelforge.runs.exports import (
    ExportFolder,
    ExportRecord,
    ExportRequest,
    ExportResult,
    write_result,
)
from modelforge.services.chat import ChatService
from modelforge.services.exports.prediction import predict
from modelforge.services.exports.sources import ExportSources, SourceFinder, require_packages
from modelforge.services.exports.view import ExportView, Prediction, export_name, view_export
from modelforge.services.exports.zip_stream import zip_chunks
from modelforge.services.jobs.service import REQUEST_ID, Guard, JobService
from modelforge.services.jobs.view import FORMULA
from modelforge.services.start import RunLauncher
from modelforge.units import MIB, human_bytes

# Disk space that an export leaves free.
RESERVE_BYTES = 512 * MIB
# What was written → the kind of a repository of the Hub.
CONTENTS: dict[str, Literal["adapter", "merged", "gguf"]] = {
    "adapter": "adapter",
    "merged": "merged",
    "mlx": "merged",
    "gguf": "gguf",
    "ollama": "gguf",
}
COMMAND = (sys.executable, "-m", "modelforge.export")


class ExportService(JobService[ExportFolder, ExportView]):
    """The exports of a home: see JobService."""

    AGAIN: ClassVar[str] = "Export the run again."

    def __init__(
        self,
        finder: SourceFinder,
        launcher: RunLauncher,
        chat: ChatService,
        command: Sequence[str],
        *guards: Guard,
    ) -> None:
        home = finder.home
        super().__init__(ExportFolder, home.exports, home, launcher, chat, command)
        self._home = home
        self._finder = finder
        self.guards += guards

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
        return self._queue(request_id, lambda: self._record(request, request_id))

    def push(self, export_id: str, repository: str, *, private: bool = True) -> ExportView:
        """Queue the upload of a finished export to the Hub, as it is; raises as `start` does."""
        record = self.folder(export_id).record()
        if record is None:
            raise self._unknown(export_id)
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

    # Read

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

    def _read(self, folder: ExportFolder, queued_behind: str) -> ExportView | None:
        return view_export(folder, queued_behind)

    def _refreshed(self, folder: ExportFolder) -> ExportRecord | None:
        record = folder.record()
        if record is None:
            return None
        sources = self._finder.find(record.request, refresh=True)
        require_packages(record.request)
        return replace(record, facts=record.facts | sources.facts())

    def _write_failed(self, folder: ExportFolder, problem: Problem) -> None:
        write_result(folder, ExportResult("failed", time.time(), problem=problem))


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
