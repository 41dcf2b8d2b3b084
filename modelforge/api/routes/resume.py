"""Routes of going on with a run that is over: what can be done, resume, and continue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Body, Response

from modelforge.api.routes.runs import BUSY, MISSING, Refusals
from modelforge.api.schemas.runs import OffersFacts, Problems, Started
from modelforge.forge import Forge

NOTHING: Refusals = {
    422: {"model": Problems, "description": "There is nothing to go on from, or it is refused."}
}


def add(api: APIRouter, forge: Callable[[], Forge]) -> None:
    """Add these routes to the router."""

    @api.get("/runs/{run_id}/again", responses=MISSING)
    def offers(run_id: str) -> OffersFacts:
        """Tell how one can go on with a run, and why not where one cannot."""
        return OffersFacts(**forge().again.offers(run_id).as_dict())

    @api.post("/runs/{run_id}/resume", status_code=202, responses={**MISSING, **BUSY, **NOTHING})
    def resume(run_id: str) -> Started:
        """Go on with a run that did not finish: from its newest whole checkpoint, or anew."""
        forge().again.resume(run_id)
        return Started(id=run_id, state=forge().state(run_id))

    @api.post("/runs/{run_id}/continue", status_code=202, responses={**MISSING, **BUSY, **NOTHING})
    def continue_(
        run_id: str,
        response: Response,
        epochs: Annotated[
            int | None, Body(ge=1, le=10_000, description="How many epochs more.")
        ] = None,
        steps: Annotated[
            int | None, Body(ge=1, le=10**9, description="How many updates more.")
        ] = None,
        request_id: Annotated[
            str | None, Body(max_length=200, description="The same never starts a second run.")
        ] = None,
    ) -> Started:
        """Start a new run that learns on from the end of this one, which stays as it is.

        Without a body it is one epoch more, or as many updates again.
        """
        made = forge().again.continue_run(run_id, epochs=epochs, steps=steps, request_id=request_id)
        response.headers["location"] = f"/api/runs/{made}"
        return Started(id=made, state=forge().state(made))
