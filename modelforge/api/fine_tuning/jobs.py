"""Routes of fine-tuning jobs: plan, create, list, follow, cancel, pause and resume.

Every run of the home is a job, also one of the page or the terminal.
"""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import TypeAdapter

from modelforge.api.dependencies import ForgeDep, RequestId
from modelforge.api.fine_tuning.errors import FineTuningRoute
from modelforge.api.fine_tuning.files import page
from modelforge.api.fine_tuning.requests import (
    JOB_PREFIX,
    JobRequest,
    job_layers,
    read_request,
    run_id_of,
)
from modelforge.api.fine_tuning.views import (
    JobViews,
    hyperparameters,
    is_kept,
    job_checkpoints,
    job_events,
    metadata_of,
)
from modelforge.errors import ConfigError, ForgeError, Problem
from modelforge.forge import Forge
from modelforge.runs.states import RunState
from modelforge.services.preflight import Preflight
from modelforge.serving.requests import read_body

MAX_PAGE = 100
METADATA = "metadata["
_PREFLIGHT = TypeAdapter(Preflight)
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]

router = APIRouter(route_class=FineTuningRoute)


async def _read(request: Request) -> JobRequest:
    return read_request(read_body(await request.body()))


Asked = Annotated[JobRequest, Depends(_read)]


@router.post("/fine_tuning/plans")
def plan(asked: Asked, forge: ForgeDep) -> dict[str, Any]:
    """Return the plan of a job without creating it: its hash, findings, memory and duration.

    OpenAI's API has no such route. The hash is given back as `metadata.plan_hash`.
    """
    checked = forge.preflight.check(*job_layers(forge, asked), idle=True)
    resolved, planned = checked.require()[:2]
    return {
        "object": "fine_tuning.plan",
        "hyperparameters": hyperparameters(resolved.config, planned),
        **_PREFLIGHT.dump_python(checked.as_preflight(), mode="json"),
    }


@router.post("/fine_tuning/jobs")
def create(asked: Asked, forge: ForgeDep, request_id: RequestId) -> dict[str, Any]:
    """Create a job, which waits in the queue. A rejected request creates nothing."""
    run_id = forge.queue.add(
        *job_layers(forge, asked),
        request_id=request_id,
        plan_hash=asked.plan_hash,
        metadata=asked.metadata,
    )
    return JobViews(forge).job(run_id)


@router.get("/fine_tuning/jobs")
def jobs(
    request: Request, forge: ForgeDep, limit: Limit = 20, after: str | None = None
) -> dict[str, Any]:
    """List the jobs, the newest first. `metadata[KEY]=VALUE` selects those with such metadata."""
    wanted = {
        name[len(METADATA) : -1]: value
        for name, value in request.query_params.items()
        if name.startswith(METADATA) and name.endswith("]")
    }
    rows = forge.history.page(before=None if after is None else run_id_of(after)).rows
    views, found = JobViews(forge), []
    for row in rows:
        with contextlib.suppress(ForgeError):  # deleted meanwhile, or damaged
            if _has(forge, row.id, wanted):
                found.append(views.job(row.id))
        if len(found) > limit:
            break
    return page(found, limit, None)


@router.get("/fine_tuning/jobs/{job_id}")
def job(job_id: str, forge: ForgeDep) -> dict[str, Any]:
    """Return a job."""
    return JobViews(forge).job(run_id_of(job_id))


@router.post("/fine_tuning/jobs/{job_id}/cancel")
def cancel(job_id: str, forge: ForgeDep) -> dict[str, Any]:
    """Stop a job that waits, is paused or is in progress. Its model is not kept."""
    run_id = run_id_of(job_id)
    view, is_waiting = forge.runs.view(run_id), _is_waiting(forge, run_id)
    if not view.state.is_over:
        forge.runs.stop(run_id, keep=False)
    elif is_waiting or is_kept(view, forge.runs.folder(run_id)):
        if is_waiting:  # to be resumed
            forge.queue.remove(run_id)
        forge.runs.mark_discarded(run_id)
    else:
        raise _not_possible(forge, run_id, "cancelled", "It uses nothing; it may be left alone.")
    return JobViews(forge).job(run_id)


@router.post("/fine_tuning/jobs/{job_id}/pause")
def pause(job_id: str, forge: ForgeDep) -> dict[str, Any]:
    """Hold a job that waits, or stop one that is in progress with what it has learned."""
    run_id = run_id_of(job_id)
    if _is_waiting(forge, run_id):
        forge.queue.hold(run_id)
    elif forge.runs.state(run_id).is_over:
        raise _not_possible(forge, run_id, "paused", "Pause jobs that wait or are in progress.")
    else:
        forge.runs.stop(run_id, keep=True)
    return JobViews(forge).job(run_id)


@router.post("/fine_tuning/jobs/{job_id}/resume")
def resume(job_id: str, forge: ForgeDep) -> dict[str, Any]:
    """Release a held job, or queue a paused or failed one from its newest checkpoint."""
    run_id = run_id_of(job_id)
    view = forge.runs.view(run_id)
    is_cancelled = view.state is RunState.STOPPED and not is_kept(view, forge.runs.folder(run_id))
    if _is_waiting(forge, run_id):
        forge.queue.release(run_id)
    elif not view.state.is_over or view.state is RunState.FINISHED or is_cancelled:
        raise _not_possible(forge, run_id, "resumed", "Resume paused or failed jobs.")
    else:
        forge.queue.add_resume(run_id)
    return JobViews(forge).job(run_id)


@router.get("/fine_tuning/jobs/{job_id}/events")
def events(
    job_id: str, forge: ForgeDep, limit: Limit = 20, after: str | None = None
) -> dict[str, Any]:
    """Return the events of a job, the newest first."""
    view = forge.runs.view(run_id_of(job_id))
    return page(job_events(forge.runs.folder(view.id), view.created), limit, after)


@router.get("/fine_tuning/jobs/{job_id}/checkpoints")
def checkpoints(
    job_id: str, forge: ForgeDep, limit: Limit = 10, after: str | None = None
) -> dict[str, Any]:
    """Return the checkpoints of a job, the newest first."""
    folder = forge.runs.folder(run_id_of(job_id))
    return page(job_checkpoints(folder, forge.history.curves(folder.id)), limit, after)


def _is_waiting(forge: Forge, run_id: str) -> bool:
    return any(each.run == run_id for each in forge.queue.view().runs)


def _has(forge: Forge, run_id: str, wanted: dict[str, str]) -> bool:
    metadata = metadata_of(forge.runs.folder(run_id)) if wanted else {}
    return all(metadata.get(name) == value for name, value in wanted.items())


def _not_possible(forge: Forge, run_id: str, how: str, remedy: str) -> ConfigError:
    status = JobViews(forge).job(run_id)["status"]
    what = f"{JOB_PREFIX}{run_id} is {status}, so it cannot be {how}."
    return ConfigError(Problem("job", what, remedy))
