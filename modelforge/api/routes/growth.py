"""Routes of growing models: comparisons with other ways to train, for the same FLOPs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from modelforge.api.dependencies import NO_RUN, ForgeDep, created, error
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import RunStatus
from modelforge.config.plan.growth_comparison import Way
from modelforge.services.evaluations.growth_comparisons import GrowthComparison

router = APIRouter(route_class=ForgeRoute)


@router.get("/runs/{run_id}/growth/comparisons", responses=NO_RUN)
def growth_comparisons(run_id: str, forge: ForgeDep) -> list[GrowthComparison]:
    """Compare a growing model with LoRA and with all new layers at once, for the same FLOPs.

    The losses are those of the same evaluation rows. The list is empty for other runs.
    """
    return forge.growth_comparisons.comparisons(run_id)


@router.post(
    "/runs/{run_id}/growth/comparisons",
    status_code=202,
    responses={**NO_RUN, **error(422, "It cannot be compared, or the run is blocked.")},
)
def add_growth_comparison(
    run_id: str,
    request: Request,
    response: Response,
    forge: ForgeDep,
    way: Annotated[Way, Body(embed=True, description="The other way to train.")],
) -> RunStatus:
    """Add the run of the other way to the queue; a second request returns the same run."""
    return created(request, response, forge, forge.growth_comparisons.add(run_id, way))
