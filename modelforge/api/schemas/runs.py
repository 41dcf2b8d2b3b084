"""Responses about runs: list, details, events, ways to continue, and diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field

from modelforge.api.schemas.errors import about
from modelforge.diagnosis.verdict import Verdict
from modelforge.runs.event_types import KINDS, json_schemas
from modelforge.runs.states import RunState
from modelforge.runs.view import RunView


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
