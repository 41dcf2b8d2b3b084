"""Routes that check settings before a run: preflight, memory, recommendations and trial runs."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from modelforge.api.dependencies import (
    BUSY,
    INVALID_SETTINGS,
    NO_MODEL_OR_DATA,
    SETTINGS_BODY,
    ForgeDep,
    error,
)
from modelforge.api.errors import ForgeRoute, read_settings
from modelforge.api.schemas.preflight import MemoryInfo, Preflight, Recommended, TrialRun
from modelforge.api.schemas.runs import RunStatus
from modelforge.config.resolve import Layer

router = APIRouter(route_class=ForgeRoute)
NO_TRIAL_RUN = error(404, "There is no such trial run.")


@router.post("/recommended", openapi_extra=SETTINGS_BODY)
async def recommended(request: Request, forge: ForgeDep) -> Recommended:
    """Return settings that make the run faster, as all worthwhile optimizations together.

    The effective batch size does not change, and a run that fits in memory still fits.
    """
    layer = Layer("body", await read_settings(request))
    return Recommended(answers=await to_thread.run_sync(lambda: forge.preflight.recommended(layer)))


@router.post(
    "/preflight",
    openapi_extra=SETTINGS_BODY,
    responses={422: {"model": Preflight, "description": "There are problems; all are listed."}},
)
async def preflight(request: Request, response: Response, forge: ForgeDep) -> Preflight:
    """Check settings without starting a run. Return findings, memory, duration and the plan.

    If the settings are valid, a worker is warmed up so that the run starts quickly.
    """
    layer = Layer("body", await read_settings(request))
    checked = await to_thread.run_sync(lambda: forge.preflight.check(layer))
    if checked.problems:
        response.status_code = 422
    if checked.ready:  # the next request is likely to be the start
        await to_thread.run_sync(forge.warm)
    return Preflight(**checked.as_dict())


@router.post("/memory", openapi_extra=SETTINGS_BODY, responses=INVALID_SETTINGS)
async def memory(request: Request, forge: ForgeDep) -> MemoryInfo:
    """Return the memory of a run, traced by the code that would train it.

    No weights are loaded and no GPU is used. The first trace of a model with its settings takes
    seconds; later requests, including `preflight`, use the stored result.
    """
    layer = Layer("body", await read_settings(request))
    checked = await to_thread.run_sync(lambda: forge.preflight.trace_memory(layer))
    report = checked.require()[2]
    return MemoryInfo(
        memory=report.memory,
        memory_total_gib=report.memory_total_gib,
        memory_available_gib=report.memory_available_gib,
        memory_basis=report.memory_basis,
    )


@router.post(
    "/trial-runs",
    status_code=202,
    openapi_extra=SETTINGS_BODY,
    responses={**NO_MODEL_OR_DATA, **BUSY, **INVALID_SETTINGS},
)
async def start_trial_run(request: Request, response: Response, forge: ForgeDep) -> RunStatus:
    """Start a trial run: a few steps on the longest rows, one evaluation and one checkpoint.

    It uses the machine like a run and keeps no files. Later, `preflight` of the same settings
    returns its measurements.
    """
    layer = Layer("body", await read_settings(request))
    trial_run_id = await to_thread.run_sync(lambda: forge.trial_runs.start(layer))
    response.headers["location"] = f"{request.url.path.rstrip('/')}/{trial_run_id}"
    view = await to_thread.run_sync(lambda: forge.trial_runs.view(trial_run_id))
    return RunStatus(id=trial_run_id, state=view.state)


@router.get("/trial-runs/{trial_run_id}", responses=NO_TRIAL_RUN)
def trial_run(trial_run_id: str, forge: ForgeDep) -> TrialRun:
    """Return the state of a trial run and its measurements."""
    return TrialRun(**forge.trial_runs.view(trial_run_id).as_dict())


@router.post("/trial-runs/{trial_run_id}/stop", responses=NO_TRIAL_RUN)
def stop_trial_run(trial_run_id: str, forge: ForgeDep) -> RunStatus:
    """Stop a trial run and discard it."""
    return RunStatus(id=trial_run_id, state=forge.trial_runs.stop(trial_run_id))
