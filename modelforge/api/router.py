"""REST over the front door: every route under /api, and the pages that describe it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

from modelforge import __version__
from modelforge.api.errors import forge_route
from modelforge.api.openapi_docs import (
    markdown_of_responses,
    markdown_of_routes,
    page,
)
from modelforge.api.routes import (
    datasets,
    diagnosis,
    history,
    queue,
    resume,
    runs,
    system,
    trial_runs,
)
from modelforge.config.json_schema import json_schema
from modelforge.forge import Forge

__all__ = ["openapi", "responses_markdown", "rest_markdown", "router"]

PREFIX = "/api"
REFUSED = {
    "description": "What was sent cannot be used.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problems"}}},
}
ABOUT = (
    "Train, watch and stop runs of this machine, and look into data. Bodies of `preflight`, "
    "`runs` and `tokens` are the settings of docs/settings.md, flat; what is left out has the "
    "default of the contract."
)


def router(forge: Forge) -> APIRouter:
    """Return every route of the REST interface, its own documentation included."""
    return _build(lambda: forge)


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return _openapi(_build(_nobody))


def rest_markdown() -> str:
    """Return docs/rest-api.md."""
    return markdown_of_routes(openapi())


def responses_markdown() -> str:
    """Return docs/responses.md."""
    return markdown_of_responses(openapi())


def _build(forge: Callable[[], Forge]) -> APIRouter:
    api = APIRouter(prefix=PREFIX, route_class=forge_route(lambda: forge().home.logs))
    system.add(api, forge)
    datasets.add(api, forge)
    history.add(api, forge)
    runs.add(api, forge)
    trial_runs.add(api, forge)
    resume.add(api, forge)
    queue.add(api, forge)
    diagnosis.add(api, forge)

    @api.get("/openapi.json", include_in_schema=False)
    def document() -> dict[str, Any]:
        return _openapi(api)

    @api.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    def read() -> str:
        return page(_openapi(api))

    return api


def _openapi(api: APIRouter) -> dict[str, Any]:
    document = get_openapi(
        title="ModelForge", version=__version__, description=ABOUT, routes=api.routes
    )
    schema = json_schema()
    parts = document["components"]["schemas"]
    for name, definition in schema.pop("$defs").items():
        parts[name] = definition
    parts["TrainingConfig"] = _moved(schema)
    parts |= {name: _moved(part) for name, part in parts.items()}
    # Our route class answers where FastAPI would with these.
    for route in (route for verbs in document["paths"].values() for route in verbs.values()):
        if "HTTPValidationError" in str(route["responses"].get("422")):
            route["responses"]["422"] = REFUSED
    for unused in ("HTTPValidationError", "ValidationError"):
        parts.pop(unused, None)
    return document


def _moved(node: Any) -> Any:
    """Point references at the place where OpenAPI keeps its parts."""
    if isinstance(node, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/")
            if key == "$ref"
            else _moved(value)
            for key, value in node.items()
        }
    return [_moved(each) for each in node] if isinstance(node, list) else node


def _nobody() -> Forge:
    raise AssertionError("documentation is written without a forge")
