"""What the Train page shows above its cards: a welcome, and the run that is in progress."""

from __future__ import annotations

from modelforge.config.resolve import Layer
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.preflight.report import Report
from modelforge.runs.view import RunView
from modelforge.services.layers import FORM, LayerStack
from modelforge.services.preflight import PreflightResult
from ui.html import format as fmt
from ui.html.components import progress
from ui.html.markup import EMPTY, Markup, el, join
from ui.pages.train.fit_panel import fit_chip
from ui.pages.train.plan_panel import time_text

# The sample of the time in the welcome.
SAMPLE = "sample:captain"


def intro(forge: Forge, found: LayerStack, dataset: str) -> Markup:
    """Return the welcome while no data is chosen; afterwards a heading for screen readers."""
    if dataset.strip():
        return el("h1.gone", "Train a model")
    report = _report_of_sample(forge, found) if found.target is None else None
    gpus = found.machine.gpus
    where = f"your {gpus[0].name}" if gpus else "this computer"
    time = f" With a sample it takes {time_text(report)} on {where}." if report else ""
    stays = "" if found.target else " Nothing leaves this computer."
    text = f"Choose data, press Start, talk to the result.{time}{stays}"
    link = el("a", "start from nothing", href="/?from=nothing", data_action="from-nothing")
    return join(
        [
            el("h1", "Teach a language model something of your own"),
            el("p", text, " Or ", link, ": a small new model from plain text."),
        ]
    )


def _report_of_sample(forge: Forge, found: LayerStack) -> Report | None:
    """Return the report of a run on a sample with these settings; None if its time is unknown."""
    try:
        report = forge.preflight.check(*found.layers, Layer(FORM, {"dataset": SAMPLE})).report
    except ForgeError:
        return None
    return report if report and report.seconds else None


def in_progress(forge: Forge, target: str | None = None) -> Markup:
    """Return the bar of the run that uses this computer, or why a target waits; else empty."""
    if target is not None:
        reason = forge.targets.busy_reason(forge.targets.get(target))
        return el("p", f"{reason} This run will start when it is free.") if reason else EMPTY
    run_id = forge.runs.active()
    if run_id is None:
        return EMPTY
    run = forge.runs.view(run_id)
    waiting = len(forge.queue.view().runs)
    place = "this run will start next."
    if waiting:
        place = f"{fmt.plural(waiting, 'queued run')} will start before this one."
    seconds = run.time_left()
    left = "" if seconds is None else f", {fmt.time_left(seconds)}"
    return join(
        [
            progress("Progress of the run", _share(run)),
            el("p", el("b", run.name), f" is training{left}: {place}"),
            el("a.btn.s", "Show run", href=f"/?run={run.id}", id="show-run"),
        ]
    )


def _share(run: RunView) -> float | None:
    return min(1.0, run.step / run.total_steps) if run.total_steps and run.step else None


def fit(report: Report | None) -> Markup:
    """Return whether the memory suffices, as a chip for the bar of a narrow window."""
    if report is None or report.memory_total_gib is None:
        return EMPTY
    return fit_chip(report.memory_total_gib, report.memory_available_gib)


def check_form(forge: Forge, found: LayerStack, *, idle: bool = False) -> PreflightResult:
    """Return the check of a form for this computer, or for the target that it names."""
    if found.target is None:
        return forge.preflight.check(*found.layers, idle=idle)
    return forge.preflight.check(*found.layers, idle=True, machine=found.machine)
