"""Routes of evaluations: predict, start, list, follow, stop and delete."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import PlainTextResponse

from modelforge.api.dependencies import ForgeDep, RequestId, error
from modelforge.api.errors import ForgeRoute
from modelforge.api.routes.runs import without_control
from modelforge.errors import NotFoundError, Problem
from modelforge.runs.evaluations import EvaluationRequest
from modelforge.services.evaluations import EvaluationView, Prediction

NO_EVALUATION = error(404, "There is no such evaluation.")
REFUSED = {
    **error(404, "There is no such run, or its base model is not on this computer."),
    **error(422, "The run cannot be evaluated like this; `problems` lists every reason."),
    **error(501, "A package is not installed; the remedy says which."),
}
EvaluationBody = Annotated[EvaluationRequest, Body()]

router = APIRouter(route_class=ForgeRoute)


@router.get("/evaluations")
def evaluations(
    forge: ForgeDep,
    run: Annotated[str | None, Query(description="Only those of this run, by its id.")] = None,
) -> list[EvaluationView]:
    """List the evaluations, newest first, without their reports."""
    return [replace(view, report=None) for view in forge.evaluations.list(run)]


@router.post("/evaluations/predict", responses=REFUSED)
def predict(evaluation: EvaluationBody, forge: ForgeDep) -> Prediction:
    """Return memory and time that an evaluation needs. Nothing is started."""
    return forge.evaluations.predict(evaluation)


@router.post("/evaluations", status_code=202, responses=REFUSED)
def start(
    evaluation: EvaluationBody,
    request: Request,
    response: Response,
    forge: ForgeDep,
    request_id: RequestId,
) -> EvaluationView:
    """Start an evaluation. It waits while a run or another job uses this computer."""
    view = forge.evaluations.start(evaluation, request_id=request_id)
    prefix = request.url.path.partition("/api/")[0]
    response.headers["location"] = f"{prefix}/api/evaluations/{view.id}"
    return view


@router.get("/evaluations/{evaluation_id}", responses=NO_EVALUATION)
def evaluation(evaluation_id: str, forge: ForgeDep) -> EvaluationView:
    """Return an evaluation with its state, steps and report; ask again to follow it."""
    return forge.evaluations.view(evaluation_id)


@router.get("/evaluations/{evaluation_id}/report", responses=NO_EVALUATION)
def report(evaluation_id: str, forge: ForgeDep) -> dict[str, Any]:
    """Return the report alone, as docs/evaluation.md describes it; 404 before there is one."""
    found = forge.evaluations.report(evaluation_id)
    if found is None:
        what = f"The evaluation is {forge.evaluations.view(evaluation_id).state}: no report yet."
        raise NotFoundError(Problem("report", what, "Wait until it is over, or evaluate again."))
    return found


@router.get(
    "/evaluations/{evaluation_id}/log", responses=NO_EVALUATION, response_class=PlainTextResponse
)
def log(evaluation_id: str, forge: ForgeDep) -> str:
    """Return the end of the evaluator's log as plain text."""
    return without_control(forge.evaluations.log(evaluation_id))


@router.post("/evaluations/{evaluation_id}/stop", responses=NO_EVALUATION)
def stop(evaluation_id: str, forge: ForgeDep) -> EvaluationView:
    """Stop an evaluation that waits or is in progress. What it has computed is kept."""
    return forge.evaluations.stop(evaluation_id)


@router.delete(
    "/evaluations/{evaluation_id}",
    status_code=204,
    responses={**NO_EVALUATION, **error(409, "The evaluation is in progress.")},
)
def delete(evaluation_id: str, forge: ForgeDep) -> None:
    """Delete an evaluation and its report. It cannot be restored."""
    forge.evaluations.delete(evaluation_id)
