"""One page as Gradio sees it: an HTML component, its script, the functions it may call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr

from modelforge.errors import ForgeError
from ui.html.markup import Safe, el

Reply = dict[str, Any]
Asked = Callable[[Any], Reply]


def scene(body: Safe, script: str, *functions: Asked, mode: str | None = None) -> gr.HTML:
    """Place a page: `script` names what the browser calls with the page and these functions.

    One component instead of hundreds keeps the page light, and its transport is no event of the
    queue, so a page outlives a restart of the server.
    """
    return gr.HTML(
        el("div.face#page", body, tabindex="-1", data_mode=mode),
        js_on_load=f"{script}(element, server);",
        apply_default_css=False,
        server_functions=[calm(function) for function in functions],
    )


def calm(function: Asked) -> Asked:
    """Turn what people should be told into a toast; anything else stays an error of ours."""

    @functools.wraps(function)
    def asked(sent: Any = None) -> Reply:
        try:
            return function(sent)
        except ForgeError as error:
            return {"toast": sentence(error), "bad": True}

    return asked


def sentence(error: ForgeError) -> str:
    """Return an error as a person reads it: the first problem and how many more there are."""
    first = error.problems[0]
    more = len(error.problems) - 1
    return " ".join(
        part for part in (first.sentence, first.remedy, f"({more} more)" if more else "") if part
    )


def text(sent: Any, name: str) -> str:
    """Return one text out of what the browser sent; empty when it is not there."""
    value = sent.get(name) if isinstance(sent, dict) else None
    return value if isinstance(value, str) else ""


def number(sent: Any, name: str) -> int:
    """Return one whole number out of what the browser sent; 1 when it is not there."""
    value = sent.get(name) if isinstance(sent, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else 1
