"""Requests and responses of the history: run list query, notes, curves, comparison, storage."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelforge.api.schemas.errors import about
from modelforge.runs.listing import RunFilter
from modelforge.runs.notes import LONGEST_NAME, LONGEST_NOTE, LONGEST_TAG, MOST_TAGS
from modelforge.runs.states import RunState

MAX_RUNS = 1000


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
        return RunFilter(
            query=self.query,
            states=frozenset(map(str, self.state)),
            tag=self.tag,
            model=self.model,
            data=self.data,
            strategy=self.strategy,
            has_result=self.result,
            sort=self.sort,
            reverse=self.turned,
        )


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


class Notes(BaseModel):
    """Name, tags and note of a run."""

    name: str = about("Empty if the run has its original name.")
    tags: list[str]
    note: str


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


class StorageInfo(BaseModel):
    """Disk usage of the home folder, largest first. Sizes are bytes."""

    bytes: int
    disk_free: int
    kinds: list[dict[str, Any]] = about("`kind`, `bytes` and, for runs, `parts`.")
    freeable: list[dict[str, Any]] = about(
        "What can be deleted: `kind`, `bytes`, what is lost (`loses`), `runs`."
    )
    runs: list[dict[str, Any]] = about("The largest runs with their parts.")


class FreedSpace(BaseModel):
    """The result of freeing disk space."""

    freed: int = about("Bytes.")
