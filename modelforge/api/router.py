"""Build the REST interface: all routes under /api and /v1, and the pages that document them."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

from modelforge import __version__
from modelforge.api.errors import ForgeRoute
from modelforge.api.fine_tuning import files, jobs
from modelforge.api.fine_tuning.errors import FineTuningRoute
from modelforge.api.openapi_docs import rest_html
from modelforge.api.routes import (
    chat,
    datasets,
    evaluations,
    exports,
    growth,
    history,
    imports,
    preflight,
    presets,
    queue,
    resume,
    runs,
    serving,
    settings_exports,
    sweeps,
    system,
    targets,
)
from modelforge.api.schemas import EventPage
from modelforge.config.json_schema import json_schema
from modelforge.forge import Forge
from modelforge.serving.requests import ApiError

PREFIX = "/api"
INVALID = {
    "description": "The request cannot be used.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problems"}}},
}
DESCRIPTION = (
    "Train, follow, stop, evaluate and export runs on this machine, and inspect datasets. Bodies "
    "of `preflight`, `runs` and `tokens` are the settings of docs/settings.md as a flat object; "
    "omitted settings have their defaults."
)
# The history routes come before /runs/{run_id}, which would match /runs/compare.
MODULES = (
    system,
    preflight,
    presets,
    imports,
    settings_exports,
    datasets,
    history,
    runs,
    resume,
    growth,
    queue,
    exports,
    evaluations,
    sweeps,
    targets,
    serving,
    chat,
)

router = APIRouter(prefix=PREFIX, route_class=ForgeRoute)
# OpenAI's API for files and fine-tuning, which docs/fine-tuning-api.md describes.
openai_router = APIRouter(prefix="/v1", route_class=FineTuningRoute, include_in_schema=False)


def add_api(app: FastAPI, forge: Forge) -> None:
    """Add the REST interface to an app. Routes find the forge in `app.state.forge`."""
    app.state.forge = forge
    app.include_router(router)
    app.include_router(openai_router)


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document."""
    document = get_openapi(
        title="ModelForge", version=__version__, description=DESCRIPTION, routes=router.routes
    )
    settings = json_schema()
    schemas = document["components"]["schemas"]
    page = EventPage.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= page.pop("$defs") | {"EventPage": page} | settings.pop("$defs")
    schemas["TrainingConfig"] = settings
    # ForgeRoute replaces FastAPI's validation errors.
    for route in (route for methods in document["paths"].values() for route in methods.values()):
        if "HTTPValidationError" in str(route["responses"].get("422")):
            route["responses"]["422"] = INVALID
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    openapi_refs = json.dumps(document).replace('"#/$defs/', '"#/components/schemas/')
    return dict(json.loads(openapi_refs))


@router.get("/openapi.json", include_in_schema=False)
def _openapi_json() -> dict[str, Any]:
    return openapi()


@router.get("/docs", include_in_schema=False, response_class=HTMLResponse)
def _docs() -> str:
    return rest_html(openapi())


for _module in MODULES:
    router.include_router(_module.router)
for _module in (files, jobs):
    openai_router.include_router(_module.router)


@openai_router.api_route("/{path:path}", methods=["GET", "POST", "DELETE"])
def _unknown(path: str) -> None:
    message = f"/v1/{path:.100} does not exist here. See /v1/files and /v1/fine_tuning/jobs."
    remedy = "A trained model is asked at the address that `modelforge serve` prints."
    raise ApiError(f"{message} {remedy}", status=404, code="unknown_url")
