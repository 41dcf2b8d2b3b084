"""What REST takes and answers about the history: which runs are wanted, notes, curves, storage."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelforge.api.schemas.runs import about
from modelforge.runs.listing import Wanted
from modelforge.runs.notes import LONGEST_NAME, LONGEST_NOTE, LONGEST_TAG, MOST_TAGS
from modelforge.runs.states import RunState

MOST_ROWS = 1000


class RunQuery(BaseModel):
    """Which runs are wanted, and in which order."""

    query: str = Field(
        "",
        max_length=500,
        description="Words that all stand in name, id, state, model, data, strategy, tags or note.",
    )
    state: list[RunState] = Field([], description="States, one of which holds; give it again.")
    tag: str = Field("", description="A tag that it has.")
    model: str = Field("", description="The last part of the model's name.")
    data: str = Field("", description="The last part of the data's name.")
    strategy: str = Field("", description="What `strategy` says in its settings.")
    result: bool | None = Field(None, description="Whether it has left something to talk to.")
    sort: Literal["age", "name", "loss", "duration", "size"] = Field(
        "age",
        description="Newest, best or largest first, names from A; `loss` is the held-out one.",
    )
    turned: bool = Field(False, description="The other way round.")
    limit: int | None = Field(
        None, ge=0, le=MOST_ROWS, description="How many at most; without it all."
    )
    offset: int = Field(0, ge=0, description="How many to pass over.")
    before: str | None = Field(
        None, description="The id of a run: only those after it in the list."
    )

    def wanted(self) -> Wanted:
        """Return what is asked for, without the page."""
        asked = self.model_dump(exclude={"state", "limit", "offset", "before"})
        return Wanted(states=frozenset(map(str, self.state)), **asked)


class Noted(BaseModel):
    """What people say of a run. What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(
        None, description=f"Stands in place of the first name; empty: none. To {LONGEST_NAME}."
    )
    tags: list[str] | None = Field(
        None, description=f"Up to {MOST_TAGS}, each of {LONGEST_TAG} characters at most."
    )
    note: str | None = Field(None, description=f"Up to {LONGEST_NOTE:,} characters.")


class Notes(BaseModel):
    """What people say of a run now."""

    name: str = about("Empty while it has its first name.")
    tags: list[str]
    note: str


class StageCurves(BaseModel):
    """One stage's curves: for each name its points, in the order of `columns`."""

    stage: int
    name: str
    total_steps: int | None
    points: int = about("How many updates were reported.")
    trained: dict[str, list[list[float | None]]] = about("Measured while training.")
    held: dict[str, list[list[float | None]]] = about("Measured on held-out rows.")


class CurvesOfRun(BaseModel):
    """All that a run has measured, thinned so that every peak and dip stays."""

    columns: list[str] = about("What each point holds, in this order.")
    stages: list[StageCurves]


class Compared(BaseModel):
    """Runs side by side; every line of a table holds a value for each run, in their order."""

    runs: list[dict[str, Any]] = about("What came of each.")
    settings: list[dict[str, Any]] = about("Settings that differ: `name`, `label`, `values`.")
    effect: list[dict[str, Any]] = about("What differs in what was really run.")
    data: list[dict[str, Any]] = about("Rows, files, fingerprints and how they were read.")
    versions: list[dict[str, Any]] = about("Packages and systems that differ.")
    same_settings: int = about("How many settings are the same.")
    same_versions: int
    curves: list[CurvesOfRun]


class StorageFacts(BaseModel):
    """What lies in the home, biggest first. Sizes are bytes."""

    bytes: int
    disk_free: int
    kinds: list[dict[str, Any]] = about("`kind`, `bytes` and, for runs, `parts`.")
    freeable: list[dict[str, Any]] = about("What can go: `kind`, `bytes`, what it `loses`, `runs`.")
    runs: list[dict[str, Any]] = about("The biggest runs, with their parts.")


class Freed(BaseModel):
    """What is free now."""

    freed: int = about("Bytes.")
