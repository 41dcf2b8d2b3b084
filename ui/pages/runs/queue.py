"""The queue on the Runs page: waiting runs, their order, and actions on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelforge.forge import Forge
from modelforge.services.queue import QueueView
from ui.contract import Reply
from ui.html.gradio_page import flag, number, text, timestamp
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render


def change(forge: Forge, request: Any) -> Reply:
    """Apply a change of the queue; return the queue and a status for screen readers."""
    status = _change(forge, text(request, "change"), text(request, "run"), request)
    queue = queue_card(forge.queue.view())
    return Reply(parts={"queue": queue, "queue-status": join([status])})


def _change(forge: Forge, change: str, run: str, request: Any) -> str:
    queue = forge.queue
    if change == "move":
        queue.move(run, number(request, "position"))
        return f"Now number {number(request, 'position')}."
    if change == "schedule":
        queue.start_after(run, timestamp(request, "start_after"))
        return "The start time is changed."
    if change == "after-failure":
        queue.settings(go_on_after_failure=flag(request, "on"))
        return ""
    simple: dict[str, tuple[Callable[[], None], str]] = {
        "hold": (lambda: queue.hold(run), "Held."),
        "release": (lambda: queue.release(run), "Released."),
        "remove": (lambda: queue.remove(run), "Removed."),
        "hold-all": (queue.hold, "The queue is held."),
        "release-all": (queue.release, "The queue continues."),
    }
    act, status = simple.get(change, (lambda: None, ""))
    act()
    return status


def queue_card(view: QueueView) -> Markup:
    """Return the queue; nothing if no run waits and the queue is not held."""
    if not view.runs and not view.held:
        return EMPTY
    state = view.why or "The next run is about to start."
    if view.code == "busy":
        state = f"{view.why} The next run starts when this computer is free."
    return render("runs", "queue", view, view.held or view.code == "failure", state)
