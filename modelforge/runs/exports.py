"""Exports of runs: what was asked for, the folder of each, and its state.

The exporter, a process of its own, writes into `staged` and reports its steps as lines of
`events.jsonl`. After the self-test `staged` is renamed to `files`, or to `not-usable` if it failed,
and `result.json` is written last. The state follows from these files and is stored nowhere.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import ConfigDict

from modelforge.config.schema.base import about
from modelforge.errors import Problem
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.process.identity import CHILDREN, ProcessIdentity

FORMAT = 1
# An exporter that has written its result exits at once; one that does not is ended.
EXIT_TIMEOUT_S = 15.0

ExportFormat = Literal["adapter", "merged", "gguf", "ollama", "mlx", "hub"]
Quantization = Literal["f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs"]
Precision = Literal["base", "float32"]
Combination = Literal["cat", "linear", "ties", "dare_linear", "dare_ties"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
COMBINATIONS: tuple[Combination, ...] = get_args(Combination)
# Formats that consist of the weights of the whole model, or of a GGUF file made from them.
WHOLE: tuple[str, ...] = ("merged", "gguf", "ollama", "mlx")
IN_GGUF: tuple[str, ...] = ("gguf", "ollama")
# Formats with merged weights whose precision can be chosen.
WITH_PRECISION: tuple[str, ...] = ("merged", "mlx")
# The model types that modelforge.export.gguf.architectures writes; the server cannot import it.
GGUF_MODEL_TYPES: tuple[str, ...] = (
    *("gemma2", "gemma3_text", "granite", "llama", "mistral", "phi3", "qwen2", "qwen3"),
    "smollm3",
)


class ExportState(StrEnum):
    """State of an export. `lost`: the process ended without a result."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"

    @property
    def is_over(self) -> bool:
        """Whether the export has ended."""
        return self not in (ExportState.QUEUED, ExportState.RUNNING)


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and how."""

    # REST refuses a misspelt field.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    run: Annotated[str, about("Id of the run.")]
    format: ExportFormat
    quantization: Annotated[Quantization, about("Of a GGUF file or an Ollama model.")] = "q4_k_m"
    content: Annotated[
        Literal["adapter", "merged", "gguf"], about("What is uploaded to the Hub.")
    ] = "adapter"
    repository: Annotated[str, about("Of the Hub: `user/name`.")] = ""
    private: Annotated[bool, about("Whether a new repository of the Hub is private.")] = True
    adapters: Annotated[
        tuple[tuple[str, float], ...],
        about("Further runs whose adapters are merged as well, each with its weight."),
    ] = ()
    weight: Annotated[float, about("Weight of the run's own adapter among several.")] = 1.0
    combination: Annotated[Combination, about("How several adapters are combined.")] = "cat"
    density: Annotated[float, about("Share of values that TIES and DARE keep.")] = 0.5
    source: Annotated[
        str, about("Id of a finished export that is uploaded to the Hub as it is.")
    ] = ""
    precision: Annotated[
        Precision, about("Of merged weights: that of the base model, or 32 bits, twice the size.")
    ] = "base"

    @property
    def written(self) -> str:
        """The format of the files: for the Hub, what is uploaded."""
        return self.content if self.format == "hub" else self.format

    def uses(self, run_id: str) -> bool:
        """Return whether the export reads this run."""
        return run_id in (self.run, *(run for run, _weight in self.adapters))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ExportRequest:
        """Return the request of a record."""
        adapters = tuple((str(run), float(weight)) for run, weight in data.get("adapters", ()))
        return cls(**{**data, "adapters": adapters})


@dataclass(frozen=True)
class ExportStep:
    """A step of the exporter: its text, its share in 0 to 1, and the seconds it has taken."""

    step: str
    text: str
    share: float
    seconds: float


@dataclass(frozen=True)
class ExportFile:
    """A file of an export: its path inside the export and its size."""

    name: str
    bytes: int


@dataclass(frozen=True)
class ExportResult:
    """How an export ended. `self_test` is `modelforge.export.self_test.SelfTest` as plain data."""

    state: Literal["finished", "failed"]
    ended: float
    files: tuple[ExportFile, ...] = ()
    self_test: dict[str, Any] | None = None
    problem: Problem | None = None
    # Address of what was uploaded or registered: a page of the Hub, a model of Ollama.
    address: str = ""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ExportResult:
        """Return the result of a file."""
        files = tuple(ExportFile(**file) for file in data.get("files", ()))
        problem = data.get("problem")
        known = {**data, "files": files, "problem": Problem(**problem) if problem else None}
        return cls(**known)


@dataclass(frozen=True)
class ExportFolder:
    """The folder of an export; its name is the export's id."""

    path: Path

    @property
    def id(self) -> str:
        """Id of the export."""
        return self.path.name

    @property
    def record_file(self) -> Path:
        """What was asked for; written by the service, once."""
        return self.path / "export.json"

    @property
    def process_file(self) -> Path:
        """Identity of the exporter; written by the service."""
        return self.path / "process.json"

    @property
    def stop_file(self) -> Path:
        """Exists if the user stopped the export; written by the service."""
        return self.path / "stop"

    @property
    def events(self) -> Path:
        """Steps of the exporter as JSON lines."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """Output of the exporter."""
        return self.path / "export.log"

    @property
    def staged(self) -> Path:
        """Where the exporter writes; incomplete."""
        return self.path / "staged"

    @property
    def work(self) -> Path:
        """Temporary files of the exporter, such as merged weights."""
        return self.path / "work"

    @property
    def files(self) -> Path:
        """The export, complete and tested."""
        return self.path / "files"

    @property
    def not_usable(self) -> Path:
        """An export whose self-test failed."""
        return self.path / "not-usable"

    @property
    def result_file(self) -> Path:
        """How the export ended; the last file that the exporter writes."""
        return self.path / "result.json"

    def record(self) -> ExportRecord | None:
        """Return the record; None if it is missing or damaged."""
        data = find_json(self.record_file)
        try:
            return ExportRecord.from_dict(data) if data else None
        except (KeyError, TypeError, ValueError):
            return None

    def result(self) -> ExportResult | None:
        """Return the result; None before the end."""
        data = find_json(self.result_file)
        try:
            return ExportResult.from_dict(data) if data else None
        except (KeyError, TypeError, ValueError):
            return None

    def state(self) -> ExportState:
        """Return the state that follows from the files and the process.

        An export is over once its exporter has ended: until then it still uses this computer.
        """
        if result := self.result():
            return ExportState.RUNNING if self._is_ending(result) else ExportState(result.state)
        if self.stop_file.exists():
            return ExportState.STOPPED
        CHILDREN.reap()
        recorded = find_json(self.process_file)
        if recorded is None:
            return ExportState.QUEUED
        who = ProcessIdentity.from_dict(recorded)
        return ExportState.RUNNING if who and who.alive else ExportState.LOST

    def _is_ending(self, result: ExportResult) -> bool:
        """Return whether the exporter has just written its result and is still there."""
        if time.time() - result.ended >= EXIT_TIMEOUT_S:
            return False
        CHILDREN.reap()
        who = ProcessIdentity.from_dict(find_json(self.process_file) or {})
        return who is not None and who.alive

    def steps(self) -> list[ExportStep]:
        """Return the steps so far, each with its newest share; half-written lines are left out."""
        steps: dict[str, ExportStep] = {}
        for line in _lines(self.events):
            steps[line.step] = line
        return list(steps.values())


@dataclass(frozen=True)
class ExportRecord:
    """What was asked for, from which base model, and what was predicted. Sizes are bytes."""

    request: ExportRequest
    # The name of the run when the export was made, and the stem of the file names.
    run_name: str
    stem: str
    created: float
    bytes: int = 0
    disk_bytes: int = 0
    memory_bytes: int = 0
    seconds: float = 0.0
    # Facts for the exporter that only the service can find: paths of run, base, further adapters.
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ExportRecord:
        """Return the record of a file."""
        values = {key: value for key, value in data.items() if key != "format_version"}
        return cls(**{**values, "request": ExportRequest.from_dict(data["request"])})

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {"format_version": FORMAT, **asdict(self)}


class StepWriter:
    """Writes the steps of an exporter. A line is one write, so that readers see whole lines."""

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
        step = ExportStep(self._step, self._text, round(share, 4), seconds)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        file = os.open(self._path, flags, 0o600)
        try:
            os.write(file, json.dumps(asdict(step)).encode() + b"\n")
        finally:
            os.close(file)


def write_result(folder: ExportFolder, result: ExportResult) -> None:
    """Write how an export ended."""
    write_json(folder.result_file, asdict(result))


def export_folders(exports: Path) -> list[ExportFolder]:
    """Return the exports of a home, the oldest first; folders without a record are none."""
    try:
        names = sorted(path.name for path in exports.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
    folders = [ExportFolder(exports / name) for name in names]
    return [folder for folder in folders if folder.record_file.is_file()]


def unfinished(exports: Path) -> list[tuple[ExportFolder, ExportRecord]]:
    """Return the exports that wait or are in progress."""
    found = []
    for folder in export_folders(exports):
        is_open = not folder.result_file.exists() and not folder.state().is_over
        if is_open and (record := folder.record()):
            found.append((folder, record))
    return found


def queue_again(folder: ExportFolder) -> None:
    """Put an export whose process ends with its server back into the queue, unless it is over."""
    if folder.result_file.exists():
        return
    # Its files are there without a result while they are uploaded.
    for path in (folder.staged, folder.work, folder.files, folder.not_usable):
        shutil.rmtree(path, ignore_errors=True)
    folder.events.unlink(missing_ok=True)
    # Without the record of its process, the export is queued.
    folder.process_file.unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[ExportStep]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield ExportStep(**json.loads(line))
        except (ValueError, TypeError):
            continue
