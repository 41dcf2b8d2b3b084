"""The trial run in the plan panel: its button, progress, and errors."""

from __future__ import annotations

import contextlib
from typing import Any

from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.services.preflight import PreflightResult
from modelforge.services.trial_runs import TrialRunView
from ui.contract import Reply, TrialRunReply
from ui.html import format as fmt
from ui.html.components import chip, progress
from ui.html.gradio_page import ServerFunction, text
from ui.html.markup import EMPTY, Markup, el
from ui.pages.train.form import Entered

ABOUT = (
    "A few real steps on the longest rows, one evaluation and one checkpoint, "
    "to measure memory and time."
)


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the server functions for trial runs."""

    def start_trial_run(request: Any) -> Reply:
        return _reply(
            forge, forge.trial_runs.start(*forge.layers.stack(Entered.read(request)).layers)
        )

    def show_trial_run(request: Any) -> Reply:
        try:
            return _reply(forge, text(request, "id"))
        except ForgeError:
            return TrialRunReply(id=text(request, "id"), parts={"trial-run": EMPTY})

    def stop_trial_run(request: Any) -> Reply:
        forge.trial_runs.stop(text(request, "id"))
        return _reply(forge, text(request, "id"))

    return [start_trial_run, show_trial_run, stop_trial_run]


def start_button() -> Markup:
    """Return the button that starts a trial run."""
    return el(
        "button.btn#trial-run",
        "Trial run",
        type="button",
        data_action="trial-run",
        aria_disabled="true",
        title=ABOUT,
    )


def state(forge: Forge, checked: PreflightResult) -> Markup:
    """Return the trial run in progress, or else the last one of the same plan."""
    with contextlib.suppress(ForgeError):
        if active := forge.trial_runs.active():
            return view_part(forge.trial_runs.view(active))
        key = checked.trial_run_key
        view = forge.trial_runs.latest(key) if key else None
        return view_part(view) if view else EMPTY
    return EMPTY


def _reply(forge: Forge, trial_run_id: str) -> TrialRunReply:
    view = forge.trial_runs.view(trial_run_id)
    parts: dict[str, str] = {"trial-run": view_part(view)}
    return TrialRunReply(id=view.id, poll=not view.state.is_over, parts=parts)


def view_part(view: TrialRunView) -> Markup:
    """Return the progress of a trial run, or why it failed; nothing after a success."""
    if not view.state.is_over:
        return _progress(view)
    if view.ending and view.ending.get("kind") == "failed":
        what, remedy = (str(view.ending.get(key) or "") for key in ("what", "remedy"))
        return _failure(what or "The trial run failed.", remedy)
    if str(view.state) in ("failed", "lost"):
        return _failure("The trial run ended without an error message.", "Start another trial run.")
    if str(view.state) == "stopped":
        return el("p.fine", "The trial run was stopped; nothing was measured.")
    return EMPTY


def _progress(view: TrialRunView) -> Markup:
    phase = view.phase or fmt.initial_phase(str(view.state))
    share = None
    if view.total and view.done is not None:
        share = min(1.0, view.done / view.total)
        phase = f"{phase} · {view.done:,} of {view.total:,}"
    is_stopping = str(view.state) == "stopping"
    stop = el(
        "button.btn.s#stop-trial-run",
        "Stop",
        type="button",
        data_action="stop-trial-run",
        data_id=view.id,
        aria_disabled="true" if is_stopping else None,
        aria_label="Stop the trial run",
    )
    text = el("span", el("b", "Trial run"), el("small", "Stopping" if is_stopping else phase))
    return el("div.trial-run", el("div.row.keep", text, stop), progress("Trial run", share))


def _failure(what: str, remedy: str) -> Markup:
    text = el("div", what, el("small", remedy) if remedy else None)
    return el("div.finds", el("div.find", chip("trial run", "bad"), text))
