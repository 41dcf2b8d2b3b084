"""Routes that check settings before a run: preflight, memory, recommendations and trial runs."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from modelforge.api.dependencies import (
    BUSY,
    INVALID_SETTINGS,
    NO_MODEL_OR_DATA,
    SETTINGS_BODY,
    ForgeDep,
    Settings,
    error,
)
from modelforge.api.errors import ForgeRoute
from modelforge.api.routes.history import attachment
from modelforge.api.schemas import MemoryInfo, Recommended, RunStatus
from modelforge.services.pages.preflight_page import preflight_page
from modelforge.services.preflight import Preflight
from modelforge.services.pretraining.dial import Dial
from modelforge.services.trial_runs import TrialRunView

router = APIRouter(route_class=ForgeRoute)
NO_TRIAL_RUN = error(404, "There is no such trial run.")


@router.post("/recommended", openapi_extra=SETTINGS_BODY)
def recommended(settings: Settings, forge: ForgeDep) -> Recommended:
    """Return settings that make the run faster, as all worthwhile optimizations together.

    The effective batch size does not change, and a run that fits in memory still fits.
    """
    return Recommended(answers=forge.preflight.recommended(settings))


@router.post(
    "/preflight",
    openapi_extra=SETTINGS_BODY,
    responses={422: {"model": Preflight, "description": "There are problems; all are listed."}},
)
def preflight(settings: Settings, response: Response, forge: ForgeDep) -> Preflight:
    """Check settings without starting a run. Return findings, memory, duration and the plan.

    If the settings are valid, a worker is warmed up so that the run starts quickly.
    """
    checked = forge.preflight.check(settings)
    if checked.problems:
        response.status_code = 422
    if checked.ready:  # the next request is likely to be the start
        forge.warm()
    return checked.as_preflight()


@router.post(
    "/preflight/report",
    openapi_extra=SETTINGS_BODY,
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "One HTML page."}},
)
def preflight_report(settings: Settings, forge: ForgeDep) -> Response:
    """Check settings and return the result as one HTML page, which needs no other file.

    It has the findings, memory, duration, data, plan and settings, but no rows of the data.
    Problems of the settings, the model or the data are among the findings.
    """
    page = preflight_page(forge.preflight.check(settings), time.time())
    return attachment(page, "text/html", "preflight.html")


@router.post("/dial", openapi_extra=SETTINGS_BODY)
def dial(settings: Settings, forge: ForgeDep) -> Dial:
    """Return what each depth of a training from nothing means on this machine.

    One entry for every second depth from 2 to 24: parameters, tokens, FLOPs, memory and duration.
    The depth of the settings has no effect. Settings or data that cannot be used give nulls;
    `preflight` names the problems.
    """
    return forge.dial.read(settings)


@router.post("/memory", openapi_extra=SETTINGS_BODY, responses=INVALID_SETTINGS)
def memory(settings: Settings, forge: ForgeDep) -> MemoryInfo:
    """Return the memory of a run, traced by the code that would train it.

    No weights are loaded and no GPU is used. The first trace of a model with its settings takes
    seconds; later requests, including `preflight`, use the stored result.
    """
    return MemoryInfo.model_validate(forge.preflight.trace_memory(settings).require()[2])


@router.post(
    "/trial-runs",
    status_code=202,
    openapi_extra=SETTINGS_BODY,
    responses={**NO_MODEL_OR_DATA, **BUSY, **INVALID_SETTINGS},
)
def start_trial_run(
    settings: Settings, request: Request, response: Response, forge: ForgeDep
) -> RunStatus:
    """Start a trial run: a few steps on the longest rows, one evaluation and one checkpoint.

    It uses the machine like a run and keeps no files. Later, `preflight` of the same settings
    returns its measurements.
    """
    trial_run_id = forge.trial_runs.start(settings)
    response.headers["location"] = f"{request.url.path.rstrip('/')}/{trial_run_id}"
    return RunStatus(id=trial_run_id, state=forge.trial_runs.view(trial_run_id).state)


@router.get("/trial-runs/{trial_run_id}", responses=NO_TRIAL_RUN)
def trial_run(trial_run_id: str, forge: ForgeDep) -> TrialRunView:
    """Return the state of a trial run and its measurements."""
    return forge.trial_runs.view(trial_run_id)


@router.post("/trial-runs/{trial_run_id}/stop", responses=NO_TRIAL_RUN)
def stop_trial_run(trial_run_id: str, forge: ForgeDep) -> RunStatus:
    """Stop a trial run and discard it."""
    return RunStatus(id=trial_run_id, state=forge.trial_runs.stop(trial_run_id))
