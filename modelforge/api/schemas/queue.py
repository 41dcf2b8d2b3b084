"""Requests and responses of the queue."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from modelforge.api.schemas.errors import about

START_AFTER = "Unix seconds, or text such as `22:30`, `+2h` or `2027-01-31 22:30`."


class QueuedRun(BaseModel):
    """A queued run. Times are Unix seconds."""

    run: str = about("The run's id.")
    name: str
    position: int = about("Its position in the queue, from 1.")
    held: bool = about("Whether it is held until released.")
    why_held: str = about("Why ModelForge held it, such as a failed start; otherwise empty.")
    start_after: float | None = about("The earliest start time, or null.")
    when: str = about("The earliest start time as text while it is in the future; else empty.")
    created: float
    resumes: bool = about("Whether it resumes from a checkpoint.")
    model_name: str
    dataset: str


class QueueInfo(BaseModel):
    """The queue."""

    held: bool = about("Whether the whole queue is held.")
    go_on_after_failure: bool = about("Whether the queue continues after a failed run.")
    code: str = about(
        "Why no run starts now: `empty`, `held`, `failure`, `busy`, `all-held` or `later`; "
        "empty if the next run is about to start."
    )
    why: str = about("The reason as a sentence.")
    runs: list[QueuedRun] = about("The queued runs, the next one first.")


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
