"""Place a page in Gradio: one HTML component, its JavaScript module and its server functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from pydantic_core import to_jsonable_python

from modelforge.api.errors import ForgeRoute, ascii_json, require_unicode
from modelforge.errors import ForgeError, NotFoundError, Problem
from ui.contract import Reply, error_text
from ui.html.layout import asset_url
from ui.html.markup import Markup, el

ServerFunction = Callable[[Any], Reply]
# The client of Gradio calls server functions at this address.
SERVER_FUNCTIONS = "/gradio_api/component_server/"


def gradio_page(
    body: Markup, module: str, *functions: ServerFunction, mode: str | None = None
) -> gr.HTML:
    """Add a page to the current Blocks; its module exports `open(root, server)`.

    One component instead of hundreds keeps the page fast, and its calls bypass the event queue of
    Gradio, so an open page works again after the server has restarted.
    """
    return gr.HTML(
        el("div.app#page", body, tabindex="-1", data_mode=mode),
        js_on_load=f'import("{asset_url(f"js/{module}.js")}")'
        ".then((page) => page.open(element, server))"
        '.then(() => document.dispatchEvent(new Event("page-opened")));',
        apply_default_css=False,
        server_functions=[as_server_function(function) for function in functions],
    )


class ServerCall(BaseModel):
    """A call of a server function from the browser."""

    component_id: int
    fn_name: str = Field(max_length=100)
    data: Any = None


def server_functions(pages: gr.Blocks) -> APIRouter:
    """Return the route that calls the server functions of all pages.

    It replaces the route of Gradio, which also reads uploads and keeps a state for every session.
    """
    router = APIRouter(include_in_schema=False, route_class=ForgeRoute)

    @router.post(SERVER_FUNCTIONS)
    def call_function(call: ServerCall) -> Response:
        require_unicode(call.data)
        component = pages.blocks.get(call.component_id)
        function = getattr(component, call.fn_name, None)
        if function is None or not getattr(function, "_is_server_fn", False):
            what = f"There is no function {call.fn_name!r} in this page."
            raise NotFoundError(Problem("function", what, "Reload the page."))
        return ascii_json(function(call.data))

    return router


def as_server_function(function: ServerFunction) -> Callable[[Any], dict[str, Any]]:
    """Serialize the replies of a function; a ForgeError becomes a message to the user."""

    @functools.wraps(function)
    def call(request: Any = None) -> dict[str, Any]:
        try:
            reply = function(request)
        except ForgeError as error:
            reply = Reply(toast=error_text(error), is_error=True)
        return dict(to_jsonable_python(reply))

    return call


def text(request: Any, name: str) -> str:
    """Return a text of a request; empty if it is missing."""
    return str(_read(request, name, str, ""))


def texts(request: Any, name: str) -> list[str]:
    """Return a list of texts of a request, without other values; empty if it is missing."""
    return [item for item in _read(request, name, list, []) if isinstance(item, str)]


def number(request: Any, name: str) -> int:
    """Return a whole number of a request; 1 if it is missing."""
    return int(_read(request, name, int, 1))


def timestamp(request: Any, name: str) -> float | None:
    """Return a Unix time of a request, or None."""
    value = _read(request, name, (int, float), None)
    return None if value is None else float(value)


def flag(request: Any, name: str, *, default: bool = False) -> bool:
    """Return a boolean of a request."""
    return bool(_read(request, name, bool, default))


def _read(request: Any, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    value = request.get(name) if isinstance(request, dict) else None
    is_boolean = isinstance(value, bool)
    return value if isinstance(value, kind) and is_boolean == (kind is bool) else default
