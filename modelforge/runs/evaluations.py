"""Evaluations of runs: what was asked for, the folder of each, and its report.

The evaluator, a process of its own, writes what it computes into `answers.jsonl`, from which a
later evaluation of the same run takes it, and its report into `report.json`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict

from modelforge.config.schema.base import about
from modelforge.config.schema.training import EVALUATION_ROWS
from modelforge.errors import Problem
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.jobs import JobFolder, parse_file

FORMAT = 1
ROWS = EVALUATION_ROWS


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate, and how."""

    # REST refuses a misspelt field.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    run: Annotated[str, about("Id of the run.")]
    rows: Annotated[int, about("Most evaluation rows; the first ones of a larger set.")] = ROWS
    answers: Annotated[
        bool, about("Whether answers are generated; without them only losses are compared.")
    ] = True
    prompted: Annotated[
        bool, about("Whether the base model also answers with examples in its prompt.")
    ] = True
    general: Annotated[
        bool, about("Whether general prompts show what the model has lost in training.")
    ] = True
    prompts: Annotated[str, about("Path of a prompt file; empty for none.")] = ""
    tasks: Annotated[
        tuple[str, ...], about("Tasks of lm-eval whose data is on this computer.")
    ] = ()
    seed: Annotated[int, about("Of the intervals, and of the choice of examples.")] = 0

    def uses(self, run_id: str) -> bool:
        """Return whether the evaluation reads this run."""
        return run_id == self.run

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EvaluationRequest:
        """Return the request of a record."""
        return cls(**{**data, "tasks": tuple(map(str, data.get("tasks", ())))})


@dataclass(frozen=True)
class EvaluationRecord:
    """What was asked for and what was predicted: seconds, and bytes of memory.

    `facts` are for the evaluator: `run_folder`, `base_path` (None if every weight was trained and
    the base model is gone), `base_name`, `adapter_path` (None if every weight was trained),
    `device`, `gpu_index`, and `earlier`, the paths of `answers.jsonl` of earlier evaluations.
    """

    request: EvaluationRequest
    # The name of the run when the evaluation was made.
    run_name: str
    created: float
    seconds: float = 0.0
    memory_bytes: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EvaluationRecord:
        """Return the record of a file."""
        values = {key: value for key, value in data.items() if key != "format_version"}
        return cls(**{**values, "request": EvaluationRequest.from_dict(data["request"])})

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {"format_version": FORMAT, **asdict(self)}


@dataclass(frozen=True)
class EvaluationResult:
    """How an evaluation ended. The report is a file of its own, written before the result."""

    state: Literal["finished", "failed"]
    ended: float
    problem: Problem | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EvaluationResult:
        """Return the result of a file."""
        problem = data.get("problem")
        return cls(**{**data, "problem": Problem(**problem) if problem else None})


@dataclass(frozen=True)
class EvaluationFolder(JobFolder):
    """The folder of an evaluation; its name is the evaluation's id."""

    NOUN: ClassVar[str] = "evaluation"
    DONE: ClassVar[str] = "evaluated"
    PROCESS: ClassVar[str] = "evaluator"
    RECORD: ClassVar[str] = "evaluation.json"
    LOG: ClassVar[str] = "evaluation.log"

    @property
    def report(self) -> Path:
        """The report, as docs/evaluation.md describes it; one that was stopped may have gaps."""
        return self.path / "report.json"

    @property
    def answers(self) -> Path:
        """What was computed: a line per contestant and example."""
        return self.path / "answers.jsonl"

    @property
    def work(self) -> Path:
        """Temporary files of the evaluator."""
        return self.path / "work"

    @property
    def temporary(self) -> tuple[Path, ...]:
        """What is removed when the evaluation is over."""
        return (self.work,)

    def record(self) -> EvaluationRecord | None:
        """Return the record; None if it is missing or damaged."""
        return parse_file(self.record_file, EvaluationRecord.from_dict)

    def result(self) -> EvaluationResult | None:
        """Return the result; None before the end."""
        return parse_file(self.result_file, EvaluationResult.from_dict)

    def read_report(self) -> dict[str, Any] | None:
        """Return the report; None if there is none yet."""
        return find_json(self.report)


def write_result(folder: EvaluationFolder, result: EvaluationResult) -> None:
    """Write how an evaluation ended."""
    write_json(folder.result_file, asdict(result))
