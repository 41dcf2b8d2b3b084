"""Requests and responses of the REST interface. Most responses are dataclasses of the services."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelforge.config.schema.base import Gib, about
from modelforge.data.checks.findings import DataFinding
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.sources.library import DATASET
from modelforge.diagnosis.verdict import Verdict
from modelforge.errors import Finding, Problem
from modelforge.hardware.machine import Machine
from modelforge.preflight.memory.estimate import MemoryPart
from modelforge.preflight.report import MemoryBasis
from modelforge.runs.event_fields import FieldSpec, field_specs
from modelforge.runs.event_types import event_kinds
from modelforge.runs.listing import RunFilter
from modelforge.runs.notes import LONGEST_NAME, LONGEST_NOTE, LONGEST_TAG, MOST_TAGS
from modelforge.runs.states import RunState
from modelforge.runs.view import RunView
from modelforge.serving.session import IDLE_MINUTES

MAX_RUNS = 1000
START_AFTER = "Unix seconds, or text such as `22:30`, `+2h` or `2027-01-31 22:30`."


class Problems(BaseModel):
    """An error response. It lists all problems at once."""

    problems: list[Problem] = about("One entry per problem; `where` names the setting or part.")
    holder: str | None = Field(
        None,
        description="With 409: what uses the machine: a run's id, `chat`, `export`, `evaluation`, "
        "`serving` or `trial-run`.",
    )
    findings: list[Finding] = Field([], description="With 422 after preflight: all findings.")


class Health(BaseModel):
    """The server is running."""

    status: Literal["ok"]
    version: Annotated[str, about("The version of ModelForge.")]
    active: Annotated[str | None, about("The id of the run that uses the machine, or null.")]
    warm: Annotated[bool, about("Whether a warm worker is ready for the next run.")]


@dataclass(frozen=True, kw_only=True)
class MachineInfo(Machine):
    """Hardware and software of this computer; null where a value could not be determined."""

    device: Annotated[
        Literal["cuda", "mps", "cpu"], about("The device that runs use by default.")
    ] = "cpu"
    practice: Annotated[bool, about("True without a CUDA GPU: small models in full precision.")]
    profile: Annotated[str, about("The profile that suits this machine.")]
    reason: Annotated[str, about("Why this profile was chosen.")]


class RunStatus(BaseModel):
    """The current state of a run."""

    id: str = about("The id of the run in every path.")
    state: RunState


@dataclass(frozen=True, kw_only=True)
class RunDetails(RunView):
    """A run with its settings and its plan."""

    verdict: Annotated[
        Verdict | None,
        Field(description="Assessment of a run that is over: `kind`, `text` and the `numbers`."),
    ] = None


_PLAIN_TYPES = ("int", "float", "str", "bool", "dict", "list")
_JSON_TYPES = ("integer", "number", "string", "boolean", "object", "array")
_JSON_TYPE = dict(zip(_PLAIN_TYPES, _JSON_TYPES, strict=True))


def event_schemas() -> Iterator[dict[str, Any]]:
    """Yield a JSON schema of the `data` of each kind of event."""
    for kind, event_type in event_kinds().items():
        specs = field_specs(event_type)
        yield {
            "title": kind,
            "description": event_type.__doc__,
            "type": "object",
            "properties": {spec.name: _json_schema(spec) for spec in specs},
            "required": [spec.name for spec in specs if spec.required],
        }


def _json_schema(spec: FieldSpec) -> dict[str, Any]:
    kind = _JSON_TYPE[spec.type_name]
    unit = f" ({spec.info.unit})" if spec.info.unit else ""
    json_type = [kind, "null"] if spec.nullable else kind
    return {"type": json_type, "description": f"{spec.info.text}{unit}"}


class RunEvent(BaseModel):
    """An event written by the worker."""

    n: int = about("Its number, from 1, without gaps.")
    t: float = about("Unix seconds.")
    kind: str = Field(description="The kind of event.", examples=list(event_kinds()))
    data: dict[str, Any] = Field(
        description="The fields, which depend on the kind.",
        json_schema_extra={"anyOf": list(event_schemas())},
    )


class EventPage(BaseModel):
    """The events after a number, for polling clients."""

    events: list[RunEvent]
    last: int = about("Pass this as `after` in the next request.")
    state: RunState


class PresetName(BaseModel):
    """The new name of a preset."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=200, description="Letters, digits, spaces and _ - + , ( ).")


class RunQuery(BaseModel):
    """Filter, order and page of the run list."""

    query: str = Field(
        "",
        max_length=500,
        description="Words to find in name, id, state, model, data, strategy, tags or note.",
    )
    state: list[RunState] = Field([], description="Accepted states; may be repeated.")
    tag: str = Field("", description="A required tag.")
    model: str = Field("", description="The last part of the model's name.")
    data: str = Field("", description="The last part of the dataset's name.")
    strategy: str = Field("", description="The value of the setting `strategy`.")
    result: bool | None = Field(None, description="Whether the run has a model to chat with.")
    sort: Literal["age", "name", "loss", "duration", "size"] = Field(
        "age",
        description="Newest, best or largest first; names from A; `loss` is the evaluation loss.",
    )
    turned: bool = Field(False, description="Reverse the order.")
    limit: int | None = Field(None, ge=0, le=MAX_RUNS, description="Maximum number; default: all.")
    offset: int = Field(0, ge=0, description="Number of runs to skip.")
    before: str | None = Field(None, description="A run's id: only the runs after it in the list.")

    def wanted(self) -> RunFilter:
        """Return the filter and the order, without the page."""
        same = self.model_dump(include={"query", "tag", "model", "data", "strategy", "sort"})
        states = frozenset(map(str, self.state))
        return RunFilter(**same, states=states, has_result=self.result, reverse=self.turned)


class NotesChange(BaseModel):
    """Changes to name, tags and note of a run. Omitted fields stay as they are."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(
        None,
        description="Replaces the original name; empty restores it. "
        f"Up to {LONGEST_NAME} characters.",
    )
    tags: list[str] | None = Field(
        None, description=f"Up to {MOST_TAGS} tags of up to {LONGEST_TAG} characters."
    )
    note: str | None = Field(None, description=f"Up to {LONGEST_NOTE:,} characters.")


class StageCurves(BaseModel):
    """The curves of one stage: a list of points by metric name, in the order of `columns`."""

    stage: int
    name: str
    total_steps: int | None
    points: int = about("The number of reported steps.")
    trained: dict[str, list[list[float | None]]] = about("Training metrics.")
    held: dict[str, list[list[float | None]]] = about("Evaluation metrics.")


class RunCurves(BaseModel):
    """All metrics of a run, downsampled so that peaks and dips remain."""

    columns: list[str] = about("The values of each point, in this order.")
    stages: list[StageCurves]


class ComparedRuns(BaseModel):
    """Runs compared. Each table line holds one value per run, in the order of the runs."""

    runs: list[dict[str, Any]] = about("The results of each run.")
    settings: list[dict[str, Any]] = about("Settings that differ: `name`, `label`, `values`.")
    effect: list[dict[str, Any]] = about("Differences in the effective settings.")
    data: list[dict[str, Any]] = about("Rows, files, hashes and column mapping.")
    versions: list[dict[str, Any]] = about("Package and system versions that differ.")
    same_settings: int = about("The number of equal settings.")
    same_versions: int
    curves: list[RunCurves]


class FreedSpace(BaseModel):
    """The result of freeing disk space."""

    freed: int = about("Bytes.")


class MemoryInfo(BaseModel):
    """The memory of a run by part."""

    model_config = ConfigDict(from_attributes=True)

    memory: Annotated[list[MemoryPart], about("The parts at the time of peak memory.")]
    memory_total_gib: Gib
    memory_available_gib: Gib
    memory_basis: Annotated[
        MemoryBasis | None,
        about(
            "How the memory is known: by formula, traced by the training code, or from a trial run."
        ),
    ]


class Recommended(BaseModel):
    """Settings that make a run faster without changing what is learned."""

    answers: Annotated[
        dict[str, Any], about("Settings by dotted name; empty if none is worthwhile.")
    ]


class DatasetDetails(BaseModel):
    """A dataset and its summary."""

    dataset: str = about(DATASET)
    name: str
    size_bytes: int
    rows: Annotated[int, about("The number of usable rows.")] = 0
    skipped: Annotated[int, about("The number of unusable rows.")] = 0
    columns: list[str] = []
    mapping: Annotated[
        ColumnMapping | None, about("How rows are read, and why; null if they cannot be read.")
    ] = None
    findings: list[Finding]
    sha256: str = ""
    mean_chars: float = 0.0
    longest_chars: int = 0
    encoding: Annotated[
        str, about("How the text is decoded, by Python's name; empty for tables.")
    ] = ""

    @classmethod
    def of(cls, summary: DatasetSummary, dataset: str) -> DatasetDetails:
        """Return the response for a dataset summary."""
        return cls(**{**vars(summary), "dataset": dataset})

    @classmethod
    def unreadable(cls, name: str, size_bytes: int, problems: Sequence[Problem]) -> DatasetDetails:
        """Return the response for a stored file that cannot be used for training yet."""
        findings = [
            Finding("blocker", "unreadable", problem.sentence, problem.remedy)
            for problem in problems
        ]
        return cls(dataset=name, name=name, size_bytes=size_bytes, findings=findings)


class PreviewRow(BaseModel):
    """A row in the file and as training reads it."""

    file: str
    line: int = about("The first line; the row number in a Parquet or Arrow file.")
    raw: dict[str, Any] = about("The columns; long texts are shortened.")
    reads: dict[str, Any] | None = about("The row as training reads it, or null.")
    why: str = Field("", description="The finding code of an unreadable row.")


class Preview(BaseModel):
    """Rows of a dataset in file order."""

    mapping: ColumnMapping = about("How rows are read, and why.")
    columns: list[str]
    rows: list[PreviewRow]


class FileFindings(BaseModel):
    """The data findings of one file."""

    file: str
    blocked: bool = about("Whether the file cannot be used for training.")
    encoding: str = about("How the text is decoded, by Python's name; empty for tables.")
    findings: list[DataFinding]
    stats: dict[str, Any] = about("Rows, bytes, characters per row, scripts of the completions.")


class DataFindings(BaseModel):
    """The data findings of a dataset."""

    trainable: bool = about("Whether the dataset can be used for training.")
    files: list[FileFindings]


class TokenPage(BaseModel):
    """Tokenized rows."""

    rows: list[dict[str, Any]] = about(
        "Each with `pieces`, a list of `id`, `text` and `role`: masked, trained, end, cut or pad."
    )
    totals: dict[str, Any] = about("Token count by role.")
    notes: list[dict[str, str]] = Field([], description="Notes on the rows, with codes.")


class QueueChange(BaseModel):
    """Changes to the whole queue. Omitted fields stay as they are."""

    model_config = ConfigDict(extra="forbid")

    held: bool | None = None
    go_on_after_failure: bool | None = None


class QueueEntry(BaseModel):
    """When a run may start."""

    model_config = ConfigDict(extra="forbid")

    held: bool | None = Field(None, description="Whether the run is held until released.")
    start_after: float | str | None = Field(
        None, description=f"{START_AFTER} Null: as soon as possible."
    )


class QueueEntryChange(QueueEntry):
    """Changes to a queued run. Omitted fields stay as they are."""

    position: int | None = Field(
        None, ge=1, description="The new position, from 1; larger values move it to the end."
    )


class ChatName(BaseModel):
    """The new name of a saved chat."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=80)


class ServingRequest(BaseModel):
    """What the API server serves, and where."""

    model_config = ConfigDict(extra="forbid")

    what: str = Field(
        min_length=1,
        max_length=500,
        description="Id of a run or of an export, or name of a base model.",
    )
    port: int | None = Field(None, description="Port; null for 8001, 0 for a free one.")
    idle_minutes: float = Field(
        IDLE_MINUTES, description="Minutes until an idle model is unloaded; 0: never."
    )


class ServingKey(BaseModel):
    """The API key, and requests to copy."""

    key: Annotated[str, about("For the header `Authorization: Bearer KEY`.")]
    curl: Annotated[str, about("A request of curl.")]
    python: Annotated[str, about("A program for OpenAI's client in Python.")]
