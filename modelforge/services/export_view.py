"""What callers see of an export: its state, its files, its self-test and its prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.errors import Problem
from modelforge.runs.exports import ExportFile, ExportFormat, ExportState, ExportStep


@dataclass(frozen=True)
class Prediction:
    """What an export needs. Sizes are bytes."""

    bytes: Annotated[int, about("Size of the export.")]
    disk_bytes: Annotated[int, about("Disk space while it works, with the export itself.")]
    memory_bytes: Annotated[int, about("Peak memory.")]
    seconds: Annotated[float, about("Duration.")]
    disk_free: Annotated[int, about("Free disk space where exports are stored.")] = 0


@dataclass(frozen=True)
class ExportView:
    """An export of a run. Times are Unix seconds, sizes bytes."""

    id: str
    state: ExportState
    run: Annotated[str, about("Id of the run.")]
    run_name: str
    format: ExportFormat
    quantization: Annotated[str, about("Of GGUF and Ollama; otherwise empty.")]
    name: Annotated[str, about("Name of the file or folder of the export.")]
    bytes: Annotated[int, about("Size on the disk.")]
    created: float
    ended: float | None
    path: Annotated[str | None, about("Where the files are; null before the end.")]
    files: tuple[ExportFile, ...]
    steps: tuple[ExportStep, ...]
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
        return self.state is ExportState.FINISHED
