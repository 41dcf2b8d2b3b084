"""The trial run in the plan panel: its button, progress, errors, and the reward trial."""

from __future__ import annotations

import contextlib
from typing import Any

from modelforge.diagnosis.reward_trial import CHEATS
from modelforge.errors import ConfigError, ForgeError, Problem
from modelforge.forge import Forge
from modelforge.preflight.report import Report
from modelforge.preflight.trial_run import RewardTrial
from modelforge.services.preflight import PreflightResult
from modelforge.services.trial_runs import TrialRunView
from ui.contract import Reply, TrialRunReply
from ui.html import format as fmt
from ui.html.components import finding
from ui.html.gradio_page import ServerFunction, text
from ui.html.markup import EMPTY, Markup, el
from ui.html.templates import render
from ui.pages.train.form import Entered

VERDICT_TONES = {"constant": "bad", "impossible": "bad", "cheatable": "warn", "fair": "good"}


def functions(forge: Forge) -> list[ServerFunction]:
    """Return the server functions for trial runs."""

    def start_trial_run(request: Any) -> Reply:
        found = forge.layers.stack(Entered.read(request))
        if found.target is not None:
            what = f"A trial run measures this computer, not {found.target}."
            raise ConfigError(Problem("trial run", what, "Start the run there."))
        return _reply(forge, forge.trial_runs.start(*found.layers))

    def show_trial_run(request: Any) -> Reply:
        try:
            return _reply(forge, text(request, "id"))
        except ForgeError:
            return TrialRunReply(id=text(request, "id"), parts={"trial-run": EMPTY})

    def stop_trial_run(request: Any) -> Reply:
        forge.trial_runs.stop(text(request, "id"))
        return _reply(forge, text(request, "id"))

    return [start_trial_run, show_trial_run, stop_trial_run]


def state(forge: Forge, checked: PreflightResult) -> Markup:
    """Return the trial run in progress, or else the last one of the same plan."""
    with contextlib.suppress(ForgeError):
        if active := forge.trial_runs.active():
            return view_part(forge.trial_runs.view(active))
        key = checked.trial_run_key
        view = forge.trial_runs.latest(key) if key else None
        return view_part(view) if view else EMPTY
    return EMPTY


def reward_trial(report: Report) -> Markup:
    """Return the verdict on the reward, with what answers and cheats get; nothing without one."""
    measured = (report.trial_run or {}).get("reward_trial")
    if not measured:
        return EMPTY
    trial = RewardTrial.from_dict(measured)
    rewards = [("Model's answers", trial.mean), ("Best of each group", trial.best)]
    if trial.expected is not None:
        rewards.append(("Expected answers", trial.expected))
    cheats = [(CHEATS[name][0], trial.cheats[name]) for name in CHEATS if name in trial.cheats]
    low, high = round(100 * trial.low), round(100 * trial.high)
    signal = (
        f"{fmt.number(trial.no_signal)} of {fmt.number(trial.groups)}",
        f"{fmt.percent(100 * trial.share)}, 95 % interval {low} to {high} %",
    )
    tone = VERDICT_TONES.get(trial.verdict, "")
    return render("plan", "reward_trial", trial, tone, signal, rewards, cheats)


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
        phase = f"{phase} · {fmt.progress(view.done, view.total)}"
    is_stopping = str(view.state) == "stopping"
    return render("plan", "trial_run", view.id, phase, share, is_stopping)


def _failure(what: str, remedy: str) -> Markup:
    return el("div.finds", finding("trial run", "bad", what, remedy))
