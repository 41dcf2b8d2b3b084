"""The panel of the Export page that serves a model to programs with the OpenAI API."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from modelforge.errors import ConfigError, Problem
from modelforge.forge import Forge
from modelforge.runs.listing import RunFilter
from modelforge.services.exports import ExportView
from modelforge.serving.service import PORT
from modelforge.serving.session import IDLE_MINUTES, ServingState, ServingView
from ui.html import format as fmt
from ui.html.gradio_page import text
from ui.html.markup import EMPTY
from ui.html.templates import render
from ui.pages.export.choice import title
from ui.pages.model_picker import MAX_OFFERED

PORTS = "Choose one from 1024 to 65535, or 0 for a free one."
OFF = (ServingState.OFF, ServingState.FAILED)
# State → its chip.
CHIPS = {
    ServingState.STARTING: ("loading", ""),
    ServingState.ON: ("on", "good"),
    ServingState.IDLE: ("on, unloaded", ""),
}


def serve_parts(forge: Forge, exports: Sequence[ExportView]) -> dict[str, str]:
    """Return the panel, and its figures as a part of their own, because they keep changing."""
    view = forge.serving.current()
    if view.state in OFF:
        models = _models(forge, exports)
        if not models and not view.problem:
            return {"export-serve": EMPTY}
        return {"export-serve": render("export", "serve_off", view, models, PORT, IDLE_MINUTES)}
    return {
        "export-serve": render("export", "serve_on", view, forge.serving.examples()),
        "serve-state": render("export", "serve_state", view, CHIPS[view.state]),
        "serve-facts": render("export", "serve_facts", _facts(view)),
    }


def read_minutes(request: Any) -> float:
    """Return the minutes until an idle model is unloaded, as they were typed."""
    return _read_number(request, "minutes", IDLE_MINUTES, "time until the model is unloaded")


def read_port(request: Any) -> int:
    """Return the port that was typed."""
    port = _read_number(request, "port", PORT, "port")
    if not port.is_integer():
        raise ConfigError(Problem("port", f"The port {port:g} is not a whole number.", PORTS))
    return int(port)


def _read_number(request: Any, name: str, default: float, label: str) -> float:
    """Return a number that was typed, or the default for an empty field; raises ConfigError."""
    typed = text(request, name).strip().replace(",", ".")
    try:
        value = float(typed or default)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        what = f"The {label}, {typed[:40]!r}, is not a number."
        raise ConfigError(Problem(name, what, f"Write one, such as {default:g}."))
    return value


def served(view: ServingView) -> str:
    """Return the id of what is served; empty if nothing is."""
    return "" if view.state in OFF else view.what


def _models(forge: Forge, exports: Sequence[ExportView]) -> list[tuple[str, str]]:
    """Return what can be served, with its title: finished exports, then runs as they are."""
    finished = [
        (view.id, f"{view.run_name} · {title(view)}")
        for view in exports
        if view.is_usable and view.path and view.format != "mlx"
    ]
    runs = forge.history.page(RunFilter(has_result=True), limit=MAX_OFFERED).rows
    return [*finished, *((run.id, f"{run.name} · as trained") for run in runs)]


def _facts(view: ServingView) -> list[tuple[str, str]]:
    facts = [("Requests so far", fmt.number(view.requests))]
    if view.state is ServingState.STARTING:
        facts.append(("Model", "loading; requests wait for it"))
    if view.last_request is not None:
        ago = fmt.duration(time.time() - view.last_request)
        facts.append(("Last request", f"{ago} ago"))
    if view.tokens_per_second is not None:
        facts.append(("Speed", f"{fmt.number(view.tokens_per_second)} tokens/s"))
    if view.memory_bytes:
        facts.append(("Memory", fmt.size(view.memory_bytes)))
    if view.unloads_in is not None:
        facts.append(("Unloads in", fmt.duration(view.unloads_in)))
    if view.state is ServingState.IDLE:
        facts.append(("Model", "unloaded; the next request loads it"))
    return facts
