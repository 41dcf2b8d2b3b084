"""Speed optimizations in the plan panel: all recommended settings in one click, or one by one."""

from __future__ import annotations

from modelforge.preflight.report import Report
from modelforge.preflight.suggest.speedups import Speedup
from ui.html import format as fmt
from ui.html.components import chip
from ui.html.markup import EMPTY, Markup, el
from ui.html.templates import render
from ui.pages.train import fit_panel

MIN_GIB = 0.05
# The accuracy of the predicted speed.
MIN_GAIN = 0.06


def panel(report: Report) -> Markup:
    """Return the speed optimizations; nothing if the speed cannot be predicted."""
    if not report.levers:
        return EMPTY
    count = sum(speedup.on for speedup in report.levers)
    summary = f"Speed optimizations: {count} of {len(report.levers)} on"
    speedups = [
        (speedup, _effect(speedup), chip("on", "good") if speedup.on else _use(speedup))
        for speedup in report.levers
    ]
    return render("plan", "speedups", _recommended(report), summary, speedups)


def _recommended(report: Report) -> Markup:
    if not report.recommended:
        return EMPTY
    times = report.recommended_times
    gain = "suit this run" if not times or times < 1.05 else f"about {factor(times)} as fast"
    button = fit_panel.settings_button(
        report.recommended,
        "Use recommended",
        "the recommended settings",
        "btn s",
        "use-recommended",
    )
    return render("plan", "suggestion", el("b", "Recommended settings"), gain, button)


def _use(speedup: Speedup) -> Markup:
    # An optimization that would make this run slower is listed without a button.
    if speedup.times < 1 and speedup.gib >= 0:
        return chip("no gain here")
    return fit_panel.settings_button(speedup.settings, "Use", speedup.label, "btn s")


def _effect(speedup: Speedup) -> str:
    is_same = abs(speedup.times - 1) < MIN_GAIN
    speed = "about the same speed" if is_same else f"{factor(speedup.times)} the speed"
    if abs(speedup.gib) < MIN_GIB:
        return speed
    verb = "needs" if speedup.gib > 0 else "saves"
    return f"{speed} · {verb} {fmt.gib(abs(speedup.gib))}"


def factor(times: float) -> str:
    """Return a factor: 1.9 ×."""
    return f"{times:.2f} ×" if times < 1.1 else f"{times:.1f} ×"
