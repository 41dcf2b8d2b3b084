"""Routes of the queue: list, add, reorder, hold and schedule runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from modelforge.api.dependencies import (
    INVALID_SETTINGS,
    NO_MODEL_OR_DATA,
    NO_RUN,
    SETTINGS_BODY,
    ForgeDep,
    On,
    RequestId,
    Settings,
    created,
    error,
)
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import (
    START_AFTER,
    QueueChange,
    QueueEntry,
    QueueEntryChange,
    RunStatus,
)
from modelforge.services.queue import QueueView

router = APIRouter(route_class=ForgeRoute)
NOT_QUEUED = error(404, "The run is not in the queue.")


@dataclass(frozen=True)
class Wait:
    """Until when a run waits, and for which place."""

    start_after: Annotated[str | None, Query(description=START_AFTER)] = None
    held: Annotated[bool, Query(description="Hold the run until it is released.")] = False
    on: On = None


@router.post(
    "/queue",
    status_code=202,
    openapi_extra=SETTINGS_BODY,
    responses={**NO_MODEL_OR_DATA, **INVALID_SETTINGS},
)
def enqueue(
    settings: Settings,
    request: Request,
    response: Response,
    forge: ForgeDep,
    request_id: RequestId,
    wait: Annotated[Wait, Depends()],
) -> RunStatus:
    """Create a run and queue it. It starts when the machine, or its target, is free."""
    run_id = forge.queue.add(settings, request_id=request_id, **vars(wait))
    return created(request, response, forge, run_id)


@router.post("/queue/{run_id}", responses=NO_RUN)
def enqueue_again(run_id: str, entry: QueueEntry, forge: ForgeDep) -> QueueView:
    """Queue a run that stopped, failed or was lost, so that it resumes."""
    forge.queue.add_resume(run_id, start_after=entry.start_after, held=entry.held is True)
    return forge.queue.view()


@router.get("/queue")
def queue(forge: ForgeDep) -> QueueView:
    """Return the queued runs in order, and why none of them starts now."""
    return forge.queue.view()


@router.patch("/queue", responses=INVALID_SETTINGS)
def change_queue(change: QueueChange, forge: ForgeDep) -> QueueView:
    """Hold or release the whole queue, and set whether it continues after a failure."""
    if change.go_on_after_failure is not None:
        forge.queue.settings(go_on_after_failure=change.go_on_after_failure)
    if change.held is not None:
        forge.queue.hold() if change.held else forge.queue.release()
    return forge.queue.view()


@router.patch("/queue/{run_id}", responses={**NOT_QUEUED, **INVALID_SETTINGS})
def change_entry(run_id: str, change: QueueEntryChange, forge: ForgeDep) -> QueueView:
    """Move a queued run, hold or release it, or set its earliest start time."""
    if "start_after" in change.model_fields_set:
        forge.queue.start_after(run_id, change.start_after)
    if change.position is not None:
        forge.queue.move(run_id, change.position)
    if change.held is not None:
        forge.queue.hold(run_id) if change.held else forge.queue.release(run_id)
    return forge.queue.view()


@router.delete("/queue/{run_id}", status_code=204, responses=NOT_QUEUED)
def remove(run_id: str, forge: ForgeDep) -> None:
    """Remove a run from the queue. A run that was never started is deleted."""
    forge.queue.remove(run_id)
