"""Responses about runs: list, details, events, ways to continue, and diagnosis."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from modelforge.api.schemas.errors import about
from modelforge.config.plan.make import Plan
from modelforge.runs.event_types import KINDS, json_schemas
from modelforge.runs.listing import RunRow
from modelforge.runs.states import RunState


class RunStatus(BaseModel):
    """The current state of a run."""

    id: str = about("The id of the run in every path.")
    state: RunState


class RunSummary(BaseModel):
    """A run in short. Times are Unix seconds."""

    id: str
    name: str
    state: RunState
    created: float
    launched: float | None = about("When the worker was started; null while the run waits.")
    updated: float = about("When the worker last wrote an event.")
    step: int = about("Steps done.")
    total_steps: int | None
    loss: float | None = about("The latest training loss.")
    eval_loss: float | None = about("The latest evaluation loss.")
    metrics: dict[str, float] = about(
        "The latest other metrics; those of the evaluation rows begin with `eval_`."
    )
    stage: int | None = about("The current stage, from 1; null for a run without stages.")
    scores: dict[str, Any] | None = about(
        "Scores of the answers to evaluation rows: `rows`, `before` and `after`."
    )
    ending: dict[str, Any] | None = about("The final event: `kind` and its data.")
    tags: list[str] = about("Tags set by users.")
    note: str = about("The note written by users.")


class RunListItem(RunSummary):
    """A run in the list, with the values used to search, filter and sort."""

    model: str = about("The last part of the model's name.")
    data: str = about("The last part of the dataset's name.")
    task: str
    strategy: str
    sizes: dict[str, int] = about("Bytes on disk by part.")
    has_result: bool = about("Whether the run has a model to chat with and to download.")

    @classmethod
    def of(cls, row: RunRow) -> RunListItem:
        """Return the item for a row of the run list."""
        return cls.model_validate(row, from_attributes=True)


class RunDetails(RunSummary):
    """A run with its settings and its plan."""

    config: dict[str, Any] = about("The settings as given.")
    origins: dict[str, str] = about("The origin of each setting.")
    plan: Plan
    dataset: dict[str, Any] = about(
        "The dataset: its sources, each with files, sha256, rows and mapping."
    )
    seconds_left: float | None = Field(
        None, description="Estimated seconds left, counted from `updated`; null if unknown."
    )
    phase_left: float | None = Field(
        None, description="Estimated seconds left in the current phase, counted from `updated`."
    )
    adjusted: dict[str, Any] | None = Field(
        None,
        description="Changes after an out-of-memory error: `step`, `micro_batch`, `accumulation`, "
        "`gradient_checkpointing`, `check_batch` and `why`; null if memory never ran out.",
    )
    verdict: dict[str, Any] | None = Field(
        None, description="Assessment of a run that is over: `kind`, `text` and the `numbers`."
    )


class RunEvent(BaseModel):
    """An event written by the worker."""

    n: int = about("Its number, from 1, without gaps.")
    t: float = about("Unix seconds.")
    kind: str = Field(description="The kind of event.", examples=list(KINDS))
    data: dict[str, Any] = Field(
        description="The fields, which depend on the kind.",
        json_schema_extra={"anyOf": list(json_schemas())},
    )


class EventPage(BaseModel):
    """The events after a number, for polling clients."""

    events: list[RunEvent]
    last: int = about("Pass this as `after` in the next request.")
    state: RunState


class ContinueOption(BaseModel):
    """One way to continue a run."""

    kind: str = about("resume, continue or start-from.")
    step: int = about("The step to continue from; 0 starts over.")
    text: str = about("What would happen.")
    why_not: str = about("Why it is not possible; empty if it is.")


class DamagedCheckpoint(BaseModel):
    """A checkpoint that is not used."""

    name: str
    file: str = about("The first file that differs from what was saved.")
    reason: str = about("missing, size, hash, unknown, manifest or path.")
    why: str = about("The reason as a sentence.")


class ContinueOptions(BaseModel):
    """The ways to continue a run that is over."""

    resume: ContinueOption
    continue_: ContinueOption = Field(alias="continue")
    start_from: ContinueOption
    damaged: list[DamagedCheckpoint] = about("Damaged checkpoints, which are skipped.")


class Diagnosis(BaseModel):
    """Why a run failed or was lost."""

    code: str = about("A stable, hyphenated code; `unexpected` if the cause is unknown.")
    where: str = about("The setting or the part that caused it.")
    what: str
    remedy: str
    action: dict[str, Any] | None = about(
        "A suggested action: `label`, and `settings` to change or a `kind`; null for none."
    )
    certain: bool = about("False if the cause is inferred from outside the worker.")
