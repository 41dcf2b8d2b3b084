"""A rehearsal beside the form: how far it is, the button that ends it, and why it failed."""

from __future__ import annotations

import contextlib
from typing import Any

from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.services.preflight import Checked
from modelforge.services.trial_runs import TrialRunView
from ui.html import format as words
from ui.html.gradio_page import Asked, Reply, text
from ui.html.markup import Safe, el
from ui.pages.train.form import Entered
from ui.pages.train.layers import stack


def asked(forge: Forge) -> list[Asked]:
    """Return what the page asks about rehearsals."""

    def rehearse(sent: Any) -> Reply:
        layers = stack(forge, Entered.read(sent)).layers
        return _told(forge, forge.trial_runs.start(*layers))

    def rehearsal(sent: Any) -> Reply:
        try:
            return _told(forge, text(sent, "id"))
        except ForgeError:
            return {"lively": False, "parts": {"rehearsal": Safe("")}}

    def stop_rehearsal(sent: Any) -> Reply:
        forge.trial_runs.stop(text(sent, "id"))
        return _told(forge, text(sent, "id"))

    return [rehearse, rehearsal, stop_rehearsal]


def start() -> Safe:
    """Return the button that starts one."""
    return el(
        "button.btn#rehearse",
        "Rehearse",
        type="button",
        data_do="rehearse",
        aria_disabled="true",
        title="A few real updates on the longest rows, one check and one save: then memory and "
        "time are measured.",
    )


def beside(forge: Forge, checked: Checked) -> Safe:
    """Return what is to be said of the rehearsal under way, else of the last of such a run."""
    with contextlib.suppress(ForgeError):
        if active := forge.trial_runs.active():
            return part(forge.trial_runs.view(active))
        view = _latest(forge, checked)
        return part(view) if view else Safe("")
    return Safe("")


def _latest(forge: Forge, checked: Checked) -> TrialRunView | None:
    resolved, plan, facts = checked.resolved, checked.plan, checked.facts
    look, machine = checked.look, checked.machine
    if not (resolved and plan and facts and look and machine):
        return None
    return forge.trial_runs.latest(resolved.config, plan, facts, look, machine)


def part(view: TrialRunView) -> Safe:
    """Return how far a rehearsal is, or how it ended if not well; nothing once it has measured."""
    if not view.state.is_over:
        return _going(view)
    if view.ending and view.ending.get("kind") == "failed":
        what, remedy = (str(view.ending.get(key) or "") for key in ("what", "remedy"))
        return _failed(what or "The rehearsal failed.", remedy)
    if str(view.state) in ("failed", "lost"):
        return _failed("The rehearsal ended without a word.", "Rehearse once more.")
    if str(view.state) == "stopped":
        return el("p.fine", "The rehearsal was stopped; nothing was measured.")
    return Safe("")


def _told(forge: Forge, rehearsal_id: str) -> Reply:
    view = forge.trial_runs.view(rehearsal_id)
    return {"id": view.id, "lively": not view.state.is_over, "parts": {"rehearsal": part(view)}}


def _going(view: TrialRunView) -> Safe:
    line = view.phase or words.before(str(view.state))
    share = None
    if view.total and view.done is not None:
        share = min(1.0, view.done / view.total)
        line = f"{line} · {view.done:,} of {view.total:,}"
    stopping = str(view.state) == "stopping"
    return el(
        "div.rehearsing",
        el(
            "div.row.keep",
            el("span", el("b", "Rehearsing"), el("small", "Stopping" if stopping else line)),
            el(
                "button.btn.s#stop-rehearsal",
                "Stop",
                type="button",
                data_do="stop-rehearsal",
                data_id=view.id,
                aria_disabled="true" if stopping else None,
                aria_label="Stop the rehearsal",
            ),
        ),
        el(
            "div.prog",
            el("i", style=f"width:{100 * (share or 0):.0f}%"),
            class_="vague" if share is None else None,
            role="progressbar",
            aria_label="Rehearsal",
            aria_valuenow=None if share is None else round(100 * share),
            aria_valuemin=0,
            aria_valuemax=100,
        ),
    )


def _failed(what: str, remedy: str) -> Safe:
    told = el("div", what, el("small", remedy) if remedy else None)
    return el("div.finds", el("div.find", el("span.chip.bad", "rehearsal"), told))
