"""Routes for a run that is over: resume, continue, diagnosis, retry and support bundle."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from modelforge.api.dependencies import BUSY, NO_RUN, ForgeDep, RequestIdText, created, error
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import RunStatus
from modelforge.diagnosis.classify import Cause
from modelforge.errors import NotFoundError, Problem
from modelforge.services.resume import ResumeOptions

router = APIRouter(route_class=ForgeRoute)
NOT_POSSIBLE = {**NO_RUN, **BUSY, **error(422, "The run cannot be continued, or it is blocked.")}


class LongerRun(BaseModel):
    """How a new run continues from one that is over."""

    epochs: Annotated[int | None, Field(ge=1, le=10_000, description="Additional epochs.")] = None
    steps: Annotated[int | None, Field(ge=1, le=10**9, description="Additional steps.")] = None
    from_step: Annotated[
        int | None,
        Field(ge=1, le=10**9, description="The step of its checkpoint; else the newest."),
    ] = None
    request_id: RequestIdText = None


@router.get("/runs/{run_id}/again", responses=NO_RUN)
def continue_options(run_id: str, forge: ForgeDep) -> ResumeOptions:
    """Return the ways to continue a run, and why each is not possible where it is not."""
    return forge.resume.options(run_id)


@router.post("/runs/{run_id}/resume", status_code=202, responses=NOT_POSSIBLE)
def resume(
    run_id: str,
    forge: ForgeDep,
    step: Annotated[
        int | None,
        Body(
            ge=1,
            le=10**9,
            embed=True,
            description="The step of a checkpoint; later checkpoints are deleted.",
        ),
    ] = None,
    on: Annotated[
        str | None,
        Query(max_length=40, description="A target, or `here`; by default where the run was."),
    ] = None,
) -> RunStatus:
    """Resume an unfinished run from its newest intact checkpoint, or from the beginning."""
    forge.resume.resume(run_id, step, on)
    return RunStatus(id=run_id, state=forge.runs.state(run_id))


@router.post("/runs/{run_id}/continue", status_code=202, responses=NOT_POSSIBLE)
def continue_run(
    run_id: str,
    request: Request,
    response: Response,
    forge: ForgeDep,
    longer: LongerRun | None = None,
) -> RunStatus:
    """Start a new run that continues training the result of this one, which stays unchanged.

    The default is one more epoch, or the same number of steps again.
    """
    new_id = forge.resume.continue_run(run_id, **(longer or LongerRun()).model_dump())
    return created(request, response, forge, new_id)


@router.get(
    "/runs/{run_id}/diagnosis", responses=error(404, "There is no such run, or it did not fail.")
)
def diagnosis(run_id: str, forge: ForgeDep) -> Cause:
    """Return why a run failed or was lost, and what helps."""
    cause = forge.diagnosis.cause(run_id)
    if cause is None:
        what = f"{run_id} has neither failed nor been lost."
        raise NotFoundError(Problem("run", what, "There is no cause to report."))
    return cause


@router.post(
    "/runs/{run_id}/retry",
    status_code=202,
    responses={
        **NO_RUN, **BUSY, **error(422, "No setting helps, or the settings cannot be used.")
    },
)  # fmt: skip
def retry(
    run_id: str,
    response: Response,
    request: Request,
    forge: ForgeDep,
    request_id: Annotated[RequestIdText, Query()] = None,
) -> RunStatus:
    """Start a run again with the changed settings that `diagnosis` suggests."""
    new_id = forge.diagnosis.apply_fix(run_id, request_id=request_id)
    return created(request, response, forge, new_id)


@router.get(
    "/runs/{run_id}/bundle",
    responses={
        **NO_RUN,
        200: {"content": {"application/zip": {}}, "description": "A zip file."},
    },
    response_class=FileResponse,
)
def bundle(run_id: str, forge: ForgeDep) -> FileResponse:
    """Return a support bundle as a zip file. It has no data rows, tokens, names or home paths."""
    path = forge.diagnosis.support_bundle(run_id)
    return FileResponse(
        path,
        filename=f"modelforge-{run_id}.zip",
        media_type="application/zip",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )
