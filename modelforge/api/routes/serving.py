"""Routes of the API server: start, state, key and stop."""

from __future__ import annotations

from fastapi import APIRouter

from modelforge.api.dependencies import ForgeDep, error
from modelforge.api.errors import ForgeRoute
from modelforge.api.schemas import ServingKey, ServingRequest
from modelforge.serving.session import ServingView

router = APIRouter(route_class=ForgeRoute)
REFUSED = {
    **error(404, "There is no such run, export or model, or it has no model that can be served."),
    **error(409, "A model is served already, or the machine or the port is in use."),
    **error(422, "The port or the minutes cannot be used."),
}


@router.get("/serving")
def serving(forge: ForgeDep) -> ServingView:
    """Return the state of the API server, which other programs use like that of OpenAI."""
    return forge.serving.current()


@router.post("/serving", status_code=202, responses=REFUSED)
def start_serving(request: ServingRequest, forge: ForgeDep) -> ServingView:
    """Serve a run, an export or a base model on this computer. The model loads in the background.

    Only the command line can open the server to the network.
    """
    return forge.serving.start(request.what, port=request.port, idle_minutes=request.idle_minutes)


@router.get("/serving/key", responses=error(404, "No model is served."))
def serving_key(forge: ForgeDep) -> ServingKey:
    """Return the API key and requests to copy, in which the key is the variable KEY."""
    return ServingKey(key=forge.serving.secret(), **forge.serving.examples())


@router.delete("/serving")
def stop_serving(forge: ForgeDep) -> ServingView:
    """Stop to serve, and free the memory of the model."""
    return forge.serving.stop()
