"""Routes of rehearsals: start one, watch it, stop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from modelforge.api.errors import said_in
from modelforge.api.routes.system import SETTINGS_BODY
from modelforge.api.schemas.runs import Problems, Started, StateOnly, about
from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.preflight.trial_run import TrialRunResult
from modelforge.runs.states import RunState

Refusals = dict[int | str, dict[str, Any]]
REFUSALS: Refusals = {
    404: {"model": Problems, "description": "The model or the data is not there."},
    409: {"model": Problems, "description": "Something holds the machine; `holder` names it."},
    422: {"model": Problems, "description": "The settings cannot be run; every reason is given."},
}
ABSENT: Refusals = {404: {"model": Problems, "description": "There is no such rehearsal."}}


class TrialRunFacts(BaseModel):
    """One rehearsal: where it stands, and what it has measured."""

    id: str
    name: str = about("What is rehearsed: the data and the model.")
    state: RunState
    began: float = about("Unix seconds.")
    phase: str = about("What it does just now, in words.")
    done: int | None
    total: int | None
    trial_run: TrialRunResult | None = about("What was measured; null until it has finished.")
    ending: dict[str, Any] | None = about("The last milestone: `kind`, and why it failed.")
    notes: list[str] = Field([], description="What else it has said.")


def add(api: APIRouter, forge: Callable[[], Forge]) -> None:
    """Add these routes to the router."""

    @api.post("/trial-runs", status_code=202, openapi_extra=SETTINGS_BODY, responses=REFUSALS)
    async def rehearse(request: Request, response: Response) -> Started:
        """Rehearse a run: a few real updates on the longest rows, one check and one save.

        It holds the machine as a run does, keeps nothing, and `preflight` of the same settings
        tells from then on what was measured.
        """
        said = await said_in(request)
        found = await to_thread.run_sync(lambda: forge().trial_runs.start(Layer("body", said)))
        response.headers["location"] = f"{request.url.path.rstrip('/')}/{found}"
        view = await to_thread.run_sync(lambda: forge().trial_runs.view(found))
        return Started(id=found, state=view.state)

    @api.get("/trial-runs/{trial_run_id}", responses=ABSENT)
    def rehearsal(trial_run_id: str) -> TrialRunFacts:
        """Tell how a rehearsal stands, and what it has measured."""
        return TrialRunFacts(**forge().trial_runs.view(trial_run_id).as_dict())

    @api.post("/trial-runs/{trial_run_id}/stop", responses=ABSENT)
    def stop(trial_run_id: str) -> StateOnly:
        """Ask a rehearsal to stop; nothing of it is kept."""
        return StateOnly(id=trial_run_id, state=forge().trial_runs.stop(trial_run_id))
