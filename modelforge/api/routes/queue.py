"""Routes of the queue: what waits, in which order, from when on, and why nothing starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from modelforge.api.errors import checked_key, said_in
from modelforge.api.routes.runs import ABSENT, MISSING, REFUSED, Refusals
from modelforge.api.routes.system import SETTINGS_BODY
from modelforge.api.schemas.runs import Started, about
from modelforge.config.resolve import Layer
from modelforge.forge import Forge

BEGIN = "Unix seconds, or words such as `22:30`, `+2h` or `2027-01-31 22:30`."
OUTSIDE: Refusals = {404: {**MISSING[404], "description": "The run does not wait in the queue."}}


class QueuedRun(BaseModel):
    """One run that waits. Times are Unix seconds."""

    run: str = about("The run's id.")
    name: str
    position: int = about("Its place in the order, from 1.")
    held: bool = about("Whether it waits until it is released.")
    why_held: str = about("Why ModelForge held it, such as a start that failed; else empty.")
    start_after: float | None = about("When it may start at the earliest, or null.")
    when: str = about("The same in words while it is still to come; else empty.")
    created: float
    resumes: bool = about("Whether it goes on from a checkpoint instead of beginning.")
    model_name: str
    dataset: str


class QueueFacts(BaseModel):
    """The queue as it stands."""

    held: bool = about("Whether the whole queue is held.")
    go_on_after_failure: bool = about("Whether the queue goes on when one of its runs has failed.")
    code: str = about(
        "Why nothing starts now: `empty`, `held`, `failure`, `busy`, `all-held` or `later`; "
        "empty when the next run is about to start."
    )
    why: str = about("The same in a sentence.")
    runs: list[QueuedRun] = about("The runs that wait, the next one first.")


class QueueChange(BaseModel):
    """What is to be changed of the whole queue; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    held: bool | None = None
    go_on_after_failure: bool | None = None


class Waiting(BaseModel):
    """From when on a run may start."""

    model_config = ConfigDict(extra="forbid")

    held: bool | None = Field(None, description="Whether it waits until it is released.")
    start_after: float | str | None = Field(None, description=f"{BEGIN} Null: at once.")


class EntryChange(Waiting):
    """What is to be changed of one run that waits; what is left out stays."""

    position: int | None = Field(
        None, ge=1, description="Its new place, from 1; beyond the end is the end."
    )


def add(api: APIRouter, forge: Callable[[], Forge]) -> None:
    """Add these routes to the router."""
    _queueing(api, forge)
    _whole(api, forge)
    _single(api, forge)


def _queueing(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.post(
        "/queue", status_code=202, openapi_extra=SETTINGS_BODY, responses={**ABSENT, **REFUSED}
    )
    async def enqueue(
        request: Request,
        response: Response,
        start_after: Annotated[str | None, Query(description=BEGIN)] = None,
        held: Annotated[bool, Query(description="Let it wait until it is released.")] = False,
        idempotency_key: Annotated[
            str | None, Header(description="The same, as programs usually say it.")
        ] = None,
        request_id: Annotated[
            str | None, Query(description="The same text never makes a second run.")
        ] = None,
    ) -> Started:
        """Make a run that waits for its turn; it starts when the machine is free."""
        said = await said_in(request)
        key = checked_key(request_id if idempotency_key is None else idempotency_key)
        run_id = await to_thread.run_sync(
            lambda: forge().queue.add(
                Layer("body", said), request_id=key, start_after=start_after, held=held
            )
        )
        response.headers["location"] = (
            f"{request.url.path.rstrip('/')[: -len('/queue')]}/runs/{run_id}"
        )
        state = await to_thread.run_sync(lambda: forge().state(run_id))
        return Started(id=run_id, state=state)

    @api.post("/queue/{run_id}", responses=MISSING)
    def enqueue_again(run_id: str, waiting: Waiting) -> QueueFacts:
        """Let a run that stopped, failed or was lost wait for its turn to go on."""
        held = waiting.held is True
        forge().queue.add_again(run_id, start_after=waiting.start_after, held=held)
        return _facts(forge())


def _whole(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.get("/queue")
    def queue() -> QueueFacts:
        """Tell which runs wait, in which order, and why none of them starts now."""
        return _facts(forge())

    @api.patch("/queue", responses=REFUSED)
    def change_queue(change: QueueChange) -> QueueFacts:
        """Hold or release the whole queue, and say whether it goes on after a failure."""
        if change.go_on_after_failure is not None:
            forge().queue.settings(go_on_after_failure=change.go_on_after_failure)
        if change.held is not None:
            forge().queue.hold() if change.held else forge().queue.release()
        return _facts(forge())


def _single(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.patch("/queue/{run_id}", responses={**OUTSIDE, **REFUSED})
    def change_entry(run_id: str, change: EntryChange) -> QueueFacts:
        """Move a run that waits, hold or release it, or let it wait until a time."""
        queue = forge().queue
        if "start_after" in change.model_fields_set:
            queue.start_after(run_id, change.start_after)
        if change.position is not None:
            queue.move(run_id, change.position)
        if change.held is not None:
            queue.hold(run_id) if change.held else queue.release(run_id)
        return _facts(forge())

    @api.delete("/queue/{run_id}", status_code=204, responses=OUTSIDE)
    def remove(run_id: str) -> None:
        """Take a run out of the queue; one that was never started is deleted."""
        forge().queue.remove(run_id)


def _facts(forge: Forge) -> QueueFacts:
    return QueueFacts(**forge.queue.listing().as_dict())
