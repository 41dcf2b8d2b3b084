"""Speed optimizations in the plan panel: all recommended settings in one click, or one by one."""

from __future__ import annotations

from modelforge.preflight.report import Report
from modelforge.preflight.suggest.speedups import Speedup
from ui.html import format as fmt
from ui.html.components import chip
from ui.html.markup import EMPTY, Markup, el
from ui.pages.train import fit_panel

MIN_GIB = 0.05
# The accuracy of the predicted speed.
MIN_GAIN = 0.06


def panel(report: Report) -> Markup:
    """Return the speed optimizations; nothing if the speed cannot be predicted."""
    if not report.levers:
        return EMPTY
    count = sum(lever.on for lever in report.levers)
    return el(
        "div.speedups",
        _recommended(report),
        el(
            "details.others#speedups",
            el("summary", f"Speed optimizations: {count} of {len(report.levers)} on"),
            [_speedup(lever) for lever in report.levers],
        ),
    )


def _recommended(report: Report) -> Markup | None:
    if not report.recommended:
        return None
    times = report.recommended_times
    gain = "suit this run" if not times or times < 1.05 else f"about {factor(times)} as fast"
    return el(
        "div.way",
        el("div", el("b", "Recommended settings"), el("small", gain)),
        fit_panel.settings_button(
            report.recommended,
            "Use recommended",
            "the recommended settings",
            "btn s",
            "use-recommended",
        ),
    )


def _speedup(lever: Speedup) -> Markup:
    text = el("div", lever.label, el("small", _effect(lever)), title=lever.words)
    return el("div.way", text, chip("on", "good") if lever.on else _use(lever))


def _use(lever: Speedup) -> Markup | None:
    # An optimization that would make this run slower is listed without a button.
    if lever.times < 1 and lever.gib >= 0:
        return chip("no gain here")
    return fit_panel.settings_button(lever.settings, "Use", lever.label, "btn s")


def _effect(lever: Speedup) -> str:
    is_same = abs(lever.times - 1) < MIN_GAIN
    speed = "about the same speed" if is_same else f"{factor(lever.times)} the speed"
    if abs(lever.gib) < MIN_GIB:
        return speed
    verb = "needs" if lever.gib > 0 else "saves"
    return f"{speed} · {verb} {fmt.gib(abs(lever.gib))}"


def factor(times: float) -> str:
    """Return a factor: 1.9 ×."""
    return f"{times:.2f} ×" if times < 1.1 else f"{times:.1f} ×"
