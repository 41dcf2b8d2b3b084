"""What would make a run quicker: the recommended settings in one click, each lever below them."""

from __future__ import annotations

from modelforge.preflight.report import Report
from modelforge.preflight.suggest.speedups import Speedup
from ui.html import format as words
from ui.html.markup import Safe, el
from ui.pages.train import fit_panel

LEAST_GIB = 0.05
# What speed is foretold by is no closer than that.
LEAST_SHARE = 0.06


def panel(report: Report) -> Safe:
    """Return the recommended settings and the levers; nothing where the speed is unknown."""
    if not report.levers:
        return Safe("")
    pulled = sum(lever.on for lever in report.levers)
    return el(
        "div.levers",
        _together(report),
        el(
            "details.others",
            el("summary", f"Levers of speed: {pulled} of {len(report.levers)} in use"),
            [_lever(one) for one in report.levers],
            id="levers",
        ),
    )


def _together(report: Report) -> Safe | None:
    if not report.recommended:
        return None
    times = report.recommended_times
    gain = "would suit this run" if not times or times < 1.05 else f"about {factor(times)} as fast"
    return el(
        "div.way",
        el("div", el("b", "Recommended settings"), el("small", gain)),
        fit_panel.button(
            report.recommended,
            "Use recommended",
            "the recommended settings",
            "btn s",
            "use-recommended",
        ),
    )


def _lever(lever: Speedup) -> Safe:
    state = el("span.chip.good", "in use") if lever.on else _use(lever)
    return el(
        "div.way",
        el("div", lever.label, el("small", _figures(lever)), title=lever.words),
        state,
    )


def _use(lever: Speedup) -> Safe | None:
    # One that makes this run slower is shown, and not advised.
    if lever.times < 1 and lever.gib >= 0:
        return el("span.chip", "not here")
    return fit_panel.button(lever.settings, "Use", lever.label, "btn s")


def _figures(lever: Speedup) -> str:
    alike = abs(lever.times - 1) < LEAST_SHARE
    speed = "about the same speed" if alike else f"{factor(lever.times)} the speed"
    if abs(lever.gib) < LEAST_GIB:
        return speed
    more = "takes" if lever.gib > 0 else "saves"
    return f"{speed} · {more} {words.gib(abs(lever.gib))}"


def factor(times: float) -> str:
    """Return a factor as people read it: 1.9 ×."""
    return f"{times:.2f} ×" if times < 1.1 else f"{times:.1f} ×"
