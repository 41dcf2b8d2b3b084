"""The queue in the browser: what waits, in which order, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelforge.errors import BusyError
from modelforge.forge import Forge
from modelforge.services.queue import QueuedRun, QueueView
from ui.html import format as words
from ui.html.gradio_page import Asked, Reply, number, sentence, text
from ui.html.markup import Safe, el, join
from ui.pages.train.form import Entered
from ui.pages.train.layers import stack

SCRIPT = "face.queue(root, server)"
TITLE = "Queue"


def section() -> Safe:
    """Return the place of the queue; it is empty while nothing waits."""
    return join(
        [
            el("div.queue", data_part="queue"),
            el("p.gone", data_part="queue-said", role="status"),
        ]
    )


def parts(forge: Forge) -> dict[str, Safe]:
    """Return the queue as it stands."""
    return {"queue": card(forge.queue.listing())}


def asked(forge: Forge) -> list[Asked]:
    """Return what the section asks."""

    def queue(sent: Any) -> Reply:
        said = _change(forge, text(sent, "do"), text(sent, "run"), sent)
        return {"parts": {**parts(forge), "queue-said": join([said])}}

    return [queue]


def adding(forge: Forge) -> Asked:
    """Return what the Train page asks to let a run wait for its turn."""

    def enqueue(sent: Any) -> Reply:
        entered = Entered.read(sent)
        run_id = forge.queue.add(
            *stack(forge, entered).layers,
            name=entered.name,
            request_id=entered.request_id,
            start_after=_moment(sent),
            held=isinstance(sent, dict) and sent.get("held") is True,
        )
        waits = next((run for run in forge.queue.listing().runs if run.run == run_id), None)
        place = f"“{waits.name}” waits as number {waits.position}." if waits else "It has started."
        return {"queued": run_id, "toast": place}

    return enqueue


def offered(start: Callable[[], str]) -> Reply:
    """Return the run that was started, or who holds the machine, so that the queue is offered."""
    try:
        return {"run": start()}
    except BusyError as error:
        return {"busy": sentence(error)}


def card(view: QueueView) -> Safe:
    """Return the queue; nothing at all when nothing waits and nothing is held."""
    if not view.runs and not view.held:
        return Safe("")
    count = words.plural(len(view.runs), "run")
    whole = "Release the queue" if view.held or view.code == "failure" else "Hold the queue"
    return el(
        "section.card",
        el(
            "div.head",
            el("h2.name", TITLE),
            el("span.sub", f"{count} waiting"),
            el(
                "div.sum",
                el(
                    "button.btn.s#queue-whole",
                    whole,
                    type="button",
                    data_do="queue",
                    data_what="release-all" if whole.startswith("Release") else "hold-all",
                ),
            ),
        ),
        el("p.standing", _why(view), class_="warn" if view.code in ("held", "failure") else ""),
        el("ol.waits", [_row(run, len(view.runs)) for run in view.runs]),
        _after_failure(view),
        aria_label=TITLE,
    )


def _why(view: QueueView) -> str:
    if view.code == "busy":
        return f"{view.why} The next run starts when it is free."
    return view.why or "The next run is about to start."


def _after_failure(view: QueueView) -> Safe:
    switch = el(
        "input#queue-failure",
        type="checkbox",
        role="switch",
        checked=view.go_on_after_failure,
        data_what="go-on",
    )
    return el(
        "label.switch.after-failure",
        switch,
        "When a run fails, the queue goes on with the next one",
    )


def _row(run: QueuedRun, count: int) -> Safe:
    state = None
    if run.held:
        state = el("span.chip.warn", "held")
    elif run.when:
        state = el("span.chip", f"after {run.when}")
    told = [words.model(run.model_name), run.dataset.replace("\\", "/").rsplit("/", 1)[-1]]
    told.append(f"queued {words.when(run.created)}")
    if run.resumes:
        told.append("goes on where it stopped")
    return el(
        "li.wait",
        el("span.place", str(run.position), aria_hidden="true"),
        el(
            "div.what",
            el("div.line", el("a.open", run.name, href=f"/?run={run.run}"), state),
            el("small", " · ".join(told)),
            el("small.why", run.why_held) if run.why_held else None,
        ),
        el("div.does", _buttons(run, count)),
    )


def _buttons(run: QueuedRun, count: int) -> list[Safe]:
    hold = ("release", "Release") if run.held else ("hold", "Hold")
    return [
        _button(run, "up", "↑", f"Move {run.name} up", off=run.position == 1),
        _button(run, "down", "↓", f"Move {run.name} down", off=run.position == count),
        _button(run, hold[0], hold[1], f"{hold[1]} {run.name}", key="hold"),
        _button(run, "when", "Time", f"When {run.name} may start"),
        _button(run, "remove", "Remove", f"Remove {run.name}"),
    ]


def _button(
    run: QueuedRun, what: str, shown: str, label: str, *, key: str = "", off: bool = False
) -> Safe:
    return el(
        "button.btn.s",
        shown,
        type="button",
        data_do="queue",
        data_what=what,
        data_run=run.run,
        data_name=run.name,
        data_at=run.start_after,
        id=f"{key or what}-{run.run}",
        aria_label=label,
        title=label,
        aria_disabled="true" if off else None,
    )


def _change(forge: Forge, what: str, run: str, sent: Any) -> str:
    """Do what was asked for, and return what a screen reader is told of it."""
    queue = forge.queue
    if what == "move":
        queue.move(run, number(sent, "position"))
        return f"Now number {number(sent, 'position')}."
    if what == "when":
        queue.start_after(run, _moment(sent))
        return "The time is changed."
    if what == "go-on":
        queue.settings(go_on_after_failure=isinstance(sent, dict) and sent.get("on") is True)
        return ""
    simple: dict[str, tuple[Callable[[], None], str]] = {
        "hold": (lambda: queue.hold(run), "Held."),
        "release": (lambda: queue.release(run), "Released."),
        "remove": (lambda: queue.remove(run), "Removed."),
        "hold-all": (queue.hold, "The queue is held."),
        "release-all": (queue.release, "The queue goes on."),
    }
    act, said = simple.get(what, (lambda: None, ""))
    act()
    return said


def _moment(sent: Any) -> float | None:
    """Return the Unix time that the browser sent, or None."""
    value = sent.get("start_after") if isinstance(sent, dict) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None
