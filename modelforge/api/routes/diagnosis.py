"""Routes of aid: why a run ended as it did, the same run with a remedy, and a support bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask

from modelforge.api.routes.runs import BUSY, MISSING, Refusals
from modelforge.api.schemas.runs import Problems, Started, about
from modelforge.errors import NotFoundError, Problem
from modelforge.forge import Forge

NO_CAUSE: Refusals = {
    404: {"model": Problems, "description": "There is no such run, or it did not fail."}
}
REFUSED: Refusals = {
    422: {"model": Problems, "description": "No setting helps, or the settings cannot be run."}
}
ZIP: Refusals = {
    200: {"content": {"application/zip": {}}, "description": "A zip file."},
}


class Diagnosis(BaseModel):
    """Why a run failed or was lost."""

    code: str = about("Stable and hyphenated; `unexpected` for what is not known.")
    where: str = about("The setting or the part that it lies in.")
    what: str
    remedy: str
    action: dict[str, Any] | None = about(
        "What a button can do: `label`, and `settings` to change or a `kind`; null for nothing."
    )
    certain: bool = about("False when it is only inferred from outside.")


def add(api: APIRouter, forge: Callable[[], Forge]) -> None:
    """Add these routes to the router."""
    _helping(api, forge)
    _bundling(api, forge)


def _helping(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.get("/runs/{run_id}/diagnosis", responses=NO_CAUSE)
    def diagnosis(run_id: str) -> Diagnosis:
        """Tell why a run failed or was lost, and what helps."""
        cause = forge().aid.diagnosis(run_id)
        if cause is None:
            what = f"{run_id} has neither failed nor been lost."
            raise NotFoundError(Problem("run", what, "There is nothing to find a cause for."))
        return Diagnosis(**cause.as_dict())

    @api.post("/runs/{run_id}/retry", status_code=202, responses={**MISSING, **BUSY, **REFUSED})
    def retry(
        run_id: str,
        response: Response,
        request: Request,
        request_id: Annotated[
            str | None,
            Query(description="The same text never starts a second run.", max_length=200),
        ] = None,
    ) -> Started:
        """Start a run once more, with the settings that `diagnosis` says to change."""
        started = forge().aid.apply(run_id, request_id=request_id)
        base = request.url.path.rpartition(f"/{run_id}/retry")[0]
        response.headers["location"] = f"{base}/{started}"
        return Started(id=started, state=forge().state(started))


def _bundling(api: APIRouter, forge: Callable[[], Forge]) -> None:
    @api.get(
        "/runs/{run_id}/bundle",
        responses={**MISSING, **ZIP},
        response_class=FileResponse,
    )
    def bundle(run_id: str) -> FileResponse:
        """Give a zip file for people who help: no data rows, tokens, names or home folders."""
        path = forge().aid.bundle(run_id)
        return FileResponse(
            path,
            filename=f"modelforge-{run_id}.zip",
            media_type="application/zip",
            background=BackgroundTask(path.unlink, missing_ok=True),
        )
