"""The queue on the Runs page: waiting runs, their order, and actions on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelforge.forge import Forge
from modelforge.services.queue import QueuedRun, QueueView
from ui.contract import Reply
from ui.html import format as fmt
from ui.html.components import chip
from ui.html.gradio_page import flag, number, text
from ui.html.markup import EMPTY, Markup, el, join


def queue_section() -> Markup:
    """Return the section for the queue; it is empty while no run waits."""
    status = el("p.gone", data_part="queue-status", role="status")
    return join([el("div.queue", data_part="queue"), status])


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
        queue.start_after(run, start_time(request))
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


def start_time(request: Any) -> float | None:
    """Return the Unix time of a request before which a run may not start, or None."""
    value = request.get("start_after") if isinstance(request, dict) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def queue_card(view: QueueView) -> Markup:
    """Return the queue; nothing if no run waits and the queue is not held."""
    if not view.runs and not view.held:
        return EMPTY
    is_paused = view.held or view.code == "failure"
    hold = el(
        "button.btn.s#queue-hold",
        "Release the queue" if is_paused else "Hold the queue",
        type="button",
        data_action="queue",
        data_what="release-all" if is_paused else "hold-all",
    )
    after_failure = el(
        "input#queue-after-failure",
        type="checkbox",
        role="switch",
        checked=view.go_on_after_failure,
    )
    return el(
        "section.card",
        el(
            "div.head",
            el("h2.name", "Queue"),
            el("span.sub", f"{fmt.plural(len(view.runs), 'run')} waiting"),
            el("div.sum", hold),
        ),
        el("p.queue-state", _state(view), class_="warn" if is_paused else None),
        el("ol.waits", [_row(run, len(view.runs)) for run in view.runs]),
        el(
            "label.switch.after-failure",
            after_failure,
            "Continue with the next run after a failure",
        ),
        aria_label="Queue",
    )


def _state(view: QueueView) -> str:
    if view.code == "busy":
        return f"{view.why} The next run starts when the GPU is free."
    return view.why or "The next run is about to start."


def _row(run: QueuedRun, count: int) -> Markup:
    state = None
    if run.held:
        state = chip("held", "warn")
    elif run.when:
        state = chip(f"after {run.when}")
    texts = [fmt.model_name(run.model_name), fmt.file_name(run.dataset)]
    texts.append(f"queued {fmt.date(run.created)}")
    if run.resumes:
        texts.append("resumes where it stopped")
    return el(
        "li.waiting-run",
        el("span.place", str(run.position), aria_hidden="true"),
        el(
            "div.what",
            el("div.line", el("a.open", run.name, href=f"/?run={run.run}"), state),
            el("small", " · ".join(texts)),
            el("small.why", run.why_held) if run.why_held else None,
        ),
        el("div.does", _buttons(run, count)),
    )


def _buttons(run: QueuedRun, count: int) -> list[Markup]:
    hold, title = ("release", "Release") if run.held else ("hold", "Hold")
    return [
        _button(run, "up", "↑", f"Move {run.name} up", disabled=run.position == 1),
        _button(run, "down", "↓", f"Move {run.name} down", disabled=run.position == count),
        _button(run, hold, title, f"{title} {run.name}", key="hold"),
        _button(run, "schedule", "Time", f"Set the start time of {run.name}"),
        _button(run, "remove", "Remove", f"Remove {run.name}"),
    ]


def _button(
    run: QueuedRun, what: str, title: str, label: str, *, key: str = "", disabled: bool = False
) -> Markup:
    return el(
        "button.btn.s",
        title,
        type="button",
        data_action="queue",
        data_what=what,
        data_run=run.run,
        data_name=run.name,
        data_at=run.start_after,
        id=f"{key or what}-{run.run}",
        aria_label=label,
        title=label,
        aria_disabled="true" if disabled else None,
    )
