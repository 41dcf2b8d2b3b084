"""Routes of runs: start, list, follow, stop, delete and restore."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from modelforge.api.dependencies import (
    BUSY,
    INVALID_SETTINGS,
    NO_MODEL_OR_DATA,
    NO_RUN,
    SETTINGS_BODY,
    ForgeDep,
    On,
    RequestId,
    Responses,
    Settings,
    created,
    error,
    run_with_body,
)
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import MAX_RUNS, RunDetails, RunQuery, RunStatus
from modelforge.api.sse import RunFollower, follow_run
from modelforge.runs.listing import RunRow
from modelforge.runs.progress.breakdown import Breakdown
from modelforge.runs.samples import SampleTime
from modelforge.runs.trash import DeletedRun
from modelforge.units import MIB

MAX_LOG_BYTES = MIB
NEEDED = error(409, "A run is in progress, waits in the queue or is needed by another run.")
NOT_DELETED = "There is no such deleted run."
RunIds = Annotated[
    list[str], Body(embed=True, min_length=1, max_length=MAX_RUNS, description="Ids of runs.")
]
# Control characters could manipulate the terminal of a client that prints the log.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
STREAM: Responses = {
    200: {
        "content": {
            "text/event-stream": {},
            "application/json": {"schema": {"$ref": "#/components/schemas/EventPage"}},
        },
        "description": "A stream, or one page for `Accept: application/json`.",
    },
    204: {"description": "The run is over and the client has all events."},
}

ARCHIVE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}

router = APIRouter(route_class=ForgeRoute)


@router.get("/runs", responses=error(404, "The run in `before` is not in the list."))
def runs(response: Response, query: Annotated[RunQuery, Query()], forge: ForgeDep) -> list[RunRow]:
    """List the runs, newest first. `X-Total-Count` holds the number of matching runs."""
    page = forge.history.page(
        query.wanted(), limit=query.limit, offset=query.offset, before=query.before
    )
    response.headers["x-total-count"] = str(page.total)
    return page.rows


@router.post(
    "/runs",
    status_code=202,
    openapi_extra=SETTINGS_BODY,
    responses={**NO_MODEL_OR_DATA, **BUSY, **INVALID_SETTINGS},
)
def start(
    settings: Settings,
    request: Request,
    response: Response,
    forge: ForgeDep,
    request_id: RequestId,
    plan_hash: Annotated[
        str | None,
        Query(
            max_length=64, description="The `plan_hash` of a preflight; another plan is refused."
        ),
    ] = None,
    on: On = None,
) -> RunStatus:
    """Start a run. A rejected request creates nothing. `logging.run_name` sets its name."""
    run_id = forge.runs.start(settings, request_id=request_id, plan_hash=plan_hash, on=on)
    return created(request, response, forge, run_id)


@router.post(
    "/runs/import",
    status_code=201,
    openapi_extra=ARCHIVE_BODY,
    responses=error(422, "The archive cannot be used, or its run is here already."),
)
async def import_run(request: Request, response: Response, forge: ForgeDep) -> RunStatus:
    """Take in a run that was trained elsewhere: the zip of `modelforge runs pack` or a notebook.

    The plain body is the file, up to 20 GiB.
    """
    run_id = await run_with_body(request, forge.archives.receive)
    response.headers["location"] = f"{request.url.path.partition('/api/')[0]}/api/runs/{run_id}"
    return RunStatus(id=run_id, state=await to_thread.run_sync(forge.runs.state, run_id))


@router.get("/runs/{run_id}", responses=NO_RUN)
def run(run_id: str, forge: ForgeDep) -> RunDetails:
    """Return a run with its state, settings and plan."""
    return RunDetails(**vars(forge.runs.view(run_id)), verdict=forge.diagnosis.verdict(run_id))


@router.get("/runs/{run_id}/log", responses=NO_RUN, response_class=PlainTextResponse)
def log(
    run_id: str,
    forge: ForgeDep,
    tail: Annotated[
        int, Query(ge=1, le=MAX_LOG_BYTES, description="Number of bytes from the end.")
    ] = 16_384,
) -> str:
    """Return the end of the worker's log as plain text."""
    return without_control(forge.runs.log(run_id, tail))


@router.get("/runs/{run_id}/samples", responses=NO_RUN)
def samples(run_id: str, forge: ForgeDep) -> list[SampleTime]:
    """Return the greedy answers to the sample prompts over time, oldest first.

    Those of step 0 are the base model's. The list is empty while there are none.
    """
    return forge.runs.samples(run_id)


@router.get("/runs/{run_id}/breakdown", responses=NO_RUN)
def breakdown(run_id: str, forge: ForgeDep) -> Breakdown:
    """Return the measured time and memory of a run by part, with the estimated memory beside it.

    They are measured with `logging.time_breakdown` and `logging.memory_breakdown`; without, the
    lists are empty.
    """
    return forge.runs.breakdown(run_id)


@router.get(
    "/runs/{run_id}/events",
    responses={**NO_RUN, **STREAM},
    response_model=None,
    response_class=EventSourceResponse,
)
async def events(
    follower: Annotated[RunFollower, Depends(follow_run)],
) -> AsyncIterator[ServerSentEvent]:
    """Stream the events after number `after`, and all later ones until the run is over.

    Each event has its number as `id` and its kind as `event`; the last one is `over`.
    A comment is sent every 15 seconds to keep the connection open.
    """
    async for event in follower.stream():
        yield event


@router.post("/runs/{run_id}/stop", responses=NO_RUN)
def stop(
    run_id: str,
    forge: ForgeDep,
    keep: Annotated[
        bool, Body(embed=True, description="Whether to keep the model trained so far.")
    ] = True,
) -> RunStatus:
    """Request a run to stop. It is `stopping` until its worker has ended."""
    return RunStatus(id=run_id, state=forge.runs.stop(run_id, keep=keep))


@router.delete("/runs/{run_id}", status_code=204, responses={**NO_RUN, **NEEDED})
def delete(run_id: str, forge: ForgeDep) -> None:
    """Delete a run that is over. It can be restored for a week, unless the trash is emptied."""
    forge.trash.delete([run_id])


@router.post("/deleted-runs", responses={**NO_RUN, **NEEDED})
def delete_several(runs: RunIds, forge: ForgeDep) -> list[DeletedRun]:
    """Delete several runs, all or none, and return all deleted runs."""
    forge.trash.delete(runs)
    return forge.trash.runs()


@router.get("/deleted-runs")
def deleted(forge: ForgeDep) -> list[DeletedRun]:
    """List the deleted runs that can be restored, the newest deletion first."""
    return forge.trash.runs()


@router.post("/deleted-runs/restore", status_code=204, responses=error(404, NOT_DELETED))
def restore(runs: RunIds, forge: ForgeDep) -> None:
    """Restore deleted runs. `POST /api/storage/free` with `deleted` removes them for good."""
    forge.trash.restore(runs)


def without_control(text: str) -> str:
    """Return text with its control characters replaced, except tabs and line breaks."""
    return _CONTROL.sub("�", text)
