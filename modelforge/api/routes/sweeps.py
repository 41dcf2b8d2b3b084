"""Routes of sweeps: start, list, follow, stop and delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from modelforge.api.dependencies import (
    INVALID_SETTINGS,
    NO_MODEL_OR_DATA,
    SETTINGS_BODY,
    ForgeDep,
    Settings,
    error,
)
from modelforge.api.errors import ForgeRoute
from modelforge.services.sweeps.service import SweepView
from modelforge.services.sweeps.space import read_dimensions

MAX_BUDGET_S = 30 * 86_400.0
NO_SWEEP = error(404, "There is no such sweep.")
NO_PACKAGE = error(501, "The package optuna is not installed.")

router = APIRouter(route_class=ForgeRoute)


@router.get("/sweeps", responses=NO_PACKAGE)
def sweeps(forge: ForgeDep) -> list[SweepView]:
    """List the sweeps, the newest first."""
    return forge.sweeps.list()


@router.post(
    "/sweeps",
    status_code=202,
    openapi_extra=SETTINGS_BODY,
    responses={**NO_MODEL_OR_DATA, **INVALID_SETTINGS, **NO_PACKAGE},
)
def start_sweep(
    settings: Settings,
    forge: ForgeDep,
    vary: Annotated[
        list[str],
        Query(description="`learning_rate=1e-5..1e-3` or `lora_r=8,16,32`; may be repeated."),
    ],
    budget_s: Annotated[
        float, Query(gt=0, le=MAX_BUDGET_S, description="Seconds that the sweep may take.")
    ],
    name: Annotated[str, Query(max_length=80, description="Its name; empty generates one.")] = "",
    on: Annotated[
        list[str] | None,
        Query(description="Targets that train trials at the same time, or `here`, the default."),
    ] = None,
) -> SweepView:
    """Start a sweep: trials with other values of these settings, in the queue.

    One trains at a time, or as many as the targets `on` take. The price of a run is that of
    `preflight`, so a trial run before makes the deadline reliable.
    """
    dimensions = read_dimensions(vary)
    sweep = forge.sweeps.start(
        settings, dimensions=dimensions, budget_s=budget_s, name=name, on=on or ()
    )
    return forge.sweeps.view(sweep)


@router.get("/sweeps/{sweep_id}", responses={**NO_SWEEP, **NO_PACKAGE})
def sweep(sweep_id: str, forge: ForgeDep) -> SweepView:
    """Return a sweep with its trials, and its result once it is over."""
    return forge.sweeps.view(sweep_id)


@router.post("/sweeps/{sweep_id}/stop", responses={**NO_SWEEP, **NO_PACKAGE})
def stop_sweep(sweep_id: str, forge: ForgeDep) -> SweepView:
    """Stop a sweep: trials in progress end, and the result is that of the others."""
    forge.sweeps.stop(sweep_id)
    return forge.sweeps.view(sweep_id)


@router.delete(
    "/sweeps/{sweep_id}",
    status_code=204,
    responses={**NO_SWEEP, **error(409, "The sweep is in progress.")},
)
def delete_sweep(sweep_id: str, forge: ForgeDep) -> None:
    """Delete a sweep that is over; its trials stay as runs."""
    forge.sweeps.delete(sweep_id)
