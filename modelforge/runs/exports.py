"""Exports of runs: what was asked for, the folder of each, and its state.

The exporter, a process of its own, writes into `staged`. After the self-test `staged` is renamed to
`files`, or to `not-usable` if it failed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import ConfigDict

from modelforge.config.schema.base import about
from modelforge.errors import Problem
from modelforge.runs.atomic_files import write_json
from modelforge.runs.jobs import JobFolder, parse_file

FORMAT = 1

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
class ExportFolder(JobFolder):
    """The folder of an export; its name is the export's id."""

    NOUN: ClassVar[str] = "export"
    DONE: ClassVar[str] = "exported"
    PROCESS: ClassVar[str] = "exporter"
    RECORD: ClassVar[str] = "export.json"
    LOG: ClassVar[str] = "export.log"

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
    def temporary(self) -> tuple[Path, ...]:
        """What is removed when the export is over."""
        return (self.staged, self.work)

    @property
    def untested(self) -> tuple[Path, ...]:
        """Files of an export without a result, which were not tested or are being uploaded."""
        return (self.files, self.not_usable)

    def record(self) -> ExportRecord | None:
        """Return the record; None if it is missing or damaged."""
        return parse_file(self.record_file, ExportRecord.from_dict)

    def result(self) -> ExportResult | None:
        """Return the result; None before the end."""
        return parse_file(self.result_file, ExportResult.from_dict)


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


def write_result(folder: ExportFolder, result: ExportResult) -> None:
    """Write how an export ended."""
    write_json(folder.result_file, asdict(result))
