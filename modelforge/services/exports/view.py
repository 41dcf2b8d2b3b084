"""What callers see of an export: its state, its files, its self-test and its prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.errors import Problem
from modelforge.runs.exports import (
    IN_GGUF,
    ExportFile,
    ExportFolder,
    ExportFormat,
    ExportRecord,
    ExportRequest,
    ExportResult,
    Precision,
)
from modelforge.runs.jobs import JobState, JobStep
from modelforge.services.jobs.view import ended_at, lost_problem, seconds_left


@dataclass(frozen=True)
class Prediction:
    """What an export needs. Sizes are bytes."""

    name: Annotated[str, about("Name of the file or folder of the export.")]
    device: Annotated[str, about("Where the trained model answers in the self-test: cpu or cuda.")]
    bytes: Annotated[int, about("Size of the export.")]
    disk_bytes: Annotated[int, about("Disk space while it works, with the export itself.")]
    memory_bytes: Annotated[int, about("Peak memory.")]
    seconds: Annotated[float, about("Duration.")]
    disk_free: Annotated[int, about("Free disk space where exports are stored.")] = 0


@dataclass(frozen=True)
class ExportView:
    """An export of a run. Times are Unix seconds, sizes bytes."""

    id: str
    state: JobState
    run: Annotated[str, about("Id of the run.")]
    run_name: str
    format: ExportFormat
    quantization: Annotated[str, about("Of GGUF and Ollama; otherwise empty.")]
    precision: Annotated[Precision, about("Of merged weights; otherwise base.")]
    name: Annotated[str, about("Name of the file or folder of the export.")]
    bytes: Annotated[int, about("Size of its files; predicted until it has ended.")]
    created: float
    ended: float | None
    path: Annotated[str | None, about("Where the files are; null while there are none.")]
    files: tuple[ExportFile, ...]
    steps: tuple[JobStep, ...]
    seconds_left: Annotated[float | None, about("Estimated; null unless it is in progress.")]
    queued_behind: Annotated[str, about("What it waits for; empty unless it is queued.")]
    prediction: Prediction
    self_test: Annotated[
        dict[str, Any] | None,
        about("`passed`, `prompts`, `same_text`, `kl` or `max_logit_difference`, `cause`."),
    ]
    problem: Annotated[Problem | None, about("Why it failed.")]
    address: Annotated[str, about("Page of the Hub, or name of the Ollama model; else empty.")]

    @property
    def is_usable(self) -> bool:
        """Whether the export is complete and passed its self-test."""
        return self.state is JobState.FINISHED


def view_export(folder: ExportFolder, queued_behind: str = "") -> ExportView | None:
    """Return the view of an export; None if its record is missing or damaged.

    `queued_behind` is what it waits for, if it waits.
    """
    record = folder.record()
    if record is None:
        return None
    # The state first: a result that is written meanwhile belongs to a later state.
    state, result = folder.state(), folder.result()
    if result is None or not state.is_over:
        result = None
    steps = tuple(folder.steps())
    files = result.files if result else ()
    lost = lost_problem(folder, steps, "Export again") if state is JobState.LOST else None
    request = record.request
    return ExportView(
        id=folder.id,
        state=state,
        run=request.run,
        run_name=record.run_name,
        format=request.format,
        quantization=request.quantization if request.written in IN_GGUF else "",
        precision=request.precision,
        name=export_name(request, record.stem),
        bytes=sum(file.bytes for file in files) if state.is_over else record.bytes,
        created=record.created,
        ended=ended_at(folder, state, result),
        path=_path(folder, result),
        files=files,
        steps=steps,
        seconds_left=seconds_left(record.seconds, steps) if state is JobState.RUNNING else None,
        queued_behind=queued_behind if state is JobState.QUEUED else "",
        prediction=_prediction(record),
        self_test=result.self_test if result else None,
        problem=result.problem if result else lost,
        address=result.address if result else "",
    )


def export_name(request: ExportRequest, stem: str) -> str:
    """Return the name of the file or folder of an export; `stem` is that of the run."""
    if request.written in IN_GGUF:
        return f"{stem}-{request.quantization.upper()}.gguf"
    return f"{stem}-{request.written}"


def _prediction(record: ExportRecord) -> Prediction:
    return Prediction(
        name=export_name(record.request, record.stem),
        device=str(record.facts.get("device") or "cpu"),
        bytes=record.bytes,
        disk_bytes=record.disk_bytes,
        memory_bytes=record.memory_bytes,
        seconds=record.seconds,
    )


def _path(folder: ExportFolder, result: ExportResult | None) -> str | None:
    if result is None:
        return None
    found = (path for path in (folder.files, folder.not_usable) if path.is_dir())
    return next(map(str, found), None)
