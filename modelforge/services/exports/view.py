"""What callers see of an export: its state, its files, its self-test and its prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.errors import Problem
from modelforge.runs.atomic_files import find_json
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
from modelforge.runs.process.identity import CHILDREN, ProcessIdentity

# Share of a step from which its pace says how long the rest takes: before it, loading counts most.
FIRST_SHARE = 0.05


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


def view_export(folder: ExportFolder) -> ExportView | None:
    """Return the view of an export; None if its record is missing or damaged."""
    record = folder.record()
    if record is None:
        return None
    # The state first: a result that is written meanwhile belongs to a later state.
    state, result = folder.state(), folder.result()
    if result is None or not state.is_over:
        result = None
    steps = tuple(folder.steps())
    files = result.files if result else ()
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
        ended=_ended(folder, state, result),
        path=_path(folder, result),
        files=files,
        steps=steps,
        seconds_left=_seconds_left(record, steps) if state is JobState.RUNNING else None,
        queued_behind="",
        prediction=_prediction(record),
        self_test=result.self_test if result else None,
        problem=result.problem if result else _lost(folder, steps, state),
        address=result.address if result else "",
    )


def process_of(folder: ExportFolder) -> ProcessIdentity | None:
    """Return the exporter of an export; None if it was never started."""
    return ProcessIdentity.from_dict(find_json(folder.process_file) or {})


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


def _ended(folder: ExportFolder, state: JobState, result: ExportResult | None) -> float | None:
    if result is not None:
        return result.ended
    if not state.is_over:
        return None
    newest = [folder.stop_file] if state is JobState.STOPPED else [folder.events, folder.log]
    times = [path.stat().st_mtime for path in newest if path.exists()]
    return max(times, default=None)


def _seconds_left(record: ExportRecord, steps: tuple[JobStep, ...]) -> float:
    """Return the predicted rest, at least that of the current step."""
    spent = sum(step.seconds for step in steps)
    left = max(0.0, record.seconds - spent)
    if steps and FIRST_SHARE <= steps[-1].share < 1:
        current = steps[-1]
        left = max(left, current.seconds / current.share * (1 - current.share))
    return round(left, 1)


def _lost(folder: ExportFolder, steps: tuple[JobStep, ...], state: JobState) -> Problem | None:
    """Return why an export without a result ended, as far as that is known."""
    if state is not JobState.LOST:
        return None
    who = process_of(folder)
    code = CHILDREN.exit_code(who) if who else None
    during = f" during “{steps[-1].text}”" if steps else ""
    how = f" (signal {-code})" if code is not None and code < 0 else ""
    what = f"The exporter ended unexpectedly{during}{how}."
    remedy = "Export again; if memory is short, end other programs first."
    return Problem("export", what, f"{remedy} Its log is {folder.log}.")
