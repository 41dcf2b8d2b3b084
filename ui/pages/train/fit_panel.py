"""Whether a run fits into memory, and settings that make it fit or make it faster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelforge.preflight.report import Report
from modelforge.preflight.suggest.catalog_fit import FitEstimate
from modelforge.preflight.suggest.fit import FitSuggestion, is_tight
from modelforge.preflight.suggest.speedups import Speedup
from modelforge.units import GIB
from ui.html import format as fmt
from ui.html.components import chip, row
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render
from ui.pages.train.form import value_text

# Findings that the plan panel shows in another way: by suggestions, or in the reward trial.
COVERED = frozenset(
    {
        "memory-short",
        "ram-short",
        "memory-option",
        "reward-constant",
        "reward-impossible",
        "reward-cheatable",
    }
)
MIN_GIB = 0.05
# The accuracy of the predicted speed.
MIN_GAIN = 0.06


def fit_label(total: float | None, free: float | None) -> tuple[str, str]:
    """Return whether a number of GiB fits into the free memory, with its tone."""
    if total is None or free is None:
        return "unknown", ""
    if total > free:
        return "does not fit", "bad"
    return ("tight", "warn") if is_tight(total, free) else ("fits", "good")


def fit_chip(total: float | None, free: float | None, detail: str = "") -> Markup:
    """Return that label as a chip, with a detail after it."""
    label, tone = fit_label(total, free)
    return chip(f"{label} · {detail}" if detail else label, tone)


def model_badge(need: FitEstimate, prefix: str = "") -> Markup | None:
    """Return whether a model fits and the memory it needs; None if that is unknown."""
    if need.gib is None or need.free_gib is None:
        return None
    return fit_chip(need.gib, need.free_gib, f"{prefix}{fmt.gib(need.gib)}")


def exceeds_memory(report: Report | None) -> bool:
    """Return whether a run needs more than the free memory."""
    if report is None or report.memory_total_gib is None or report.memory_available_gib is None:
        return False
    return report.memory_total_gib > report.memory_available_gib


def suggestions(report: Report) -> Markup:
    """Return settings that make a run fit, if it does not fit or is tight."""
    total, free = report.memory_total_gib, report.memory_available_gib
    if total is None or free is None or not is_tight(total, free):
        return EMPTY
    if report.ways:
        return _suggestions(report.ways, exceeds=total > free)
    if total <= free:
        return EMPTY
    if report.largest_model is None:
        text = "Neither this model nor any model in the catalog fits into the free memory."
        return el("div.fit", el("p", text, el("small", "Close other programs to free memory.")))
    name = fmt.model_name(report.largest_model)
    text = f"No settings make this model fit. The largest model that fits is {name}."
    button = settings_button(
        report.largest_settings, f"Use {name}", f"the model {name}", "btn go wide", "make-fit"
    )
    return el("div.fit", el("p", text), button)


def settings_button(
    settings: Mapping[str, Any], label: str, text: str, class_: str, key: str | None = None
) -> Markup:
    """Return a button that changes several settings; `text` names the change for the undo."""
    values = {name: value_text(value) for name, value in settings.items()}
    return el(
        "button",
        label,
        type="button",
        id=key,
        class_=class_,
        data_action="apply-settings",
        data_settings=json.dumps(values),
        data_text=text,
        title=", ".join(f"{name}: {value or 'empty'}" for name, value in values.items()),
        aria_label=None if key else f"{label}: {text}",
    )


def basis_text(report: Report, gpus: int = 1) -> str:
    """Return where the numbers come from; a trial run measures one GPU."""
    if report.memory_basis == "trial_run":
        is_measured = report.seconds_basis == "trial_run"
        return "Measured in a trial run." if is_measured else "Memory measured in a trial run."
    source = {
        "formula": "Estimated from the model's shape.",
        "traced": "Memory traced through the model's own code.",
    }.get(report.memory_basis or "", "Estimated.")
    time = {
        "last_run": " Time measured in the last run.",
        "earlier_runs": " Time corrected by the last runs on this computer.",
    }.get(report.seconds_basis or "", "")
    if report.seconds_longest:
        time = " No run has measured the speed of this computer yet."
    return f"{source}{time}" if gpus > 1 else f"{source}{time} A trial run measures it."


def last_run(report: Report) -> Markup:
    """Return how long the last run with these settings took; nothing without one."""
    last = report.last_run
    if not last:
        return EMPTY
    # Another number of steps explains another time.
    steps = "" if last["run_steps"] == report.updates else fmt.plural(last["run_steps"], "step")
    text = f"{fmt.duration(last['run_seconds'])}{f' for {steps}' if steps else ''}"
    return row("Last time", text)


def measured(report: Report) -> Markup:
    """Return the numbers that only a trial run provides."""
    values = report.trial_run
    if not values:
        return EMPTY
    checkpoint = values.get("checkpoint_gib")
    size = None if checkpoint is None else checkpoint * GIB
    return join(
        [
            row("Time per step", fmt.short_duration(values.get("seconds_per_update"))),
            row("Checkpoint size", fmt.size(size)),
        ]
    )


def speedups(report: Report) -> Markup:
    """Return the speed optimizations; nothing if the speed cannot be predicted."""
    if not report.levers:
        return EMPTY
    count = sum(speedup.on for speedup in report.levers)
    summary = f"Speed optimizations: {count} of {len(report.levers)} on"
    speedups = [(each, _speedup_effect(each), _speedup_button(each)) for each in report.levers]
    return render("plan", "speedups", _recommended(report), summary, speedups)


def _suggestions(ways: list[FitSuggestion], *, exceeds: bool) -> Markup:
    first, others = ways[0], ways[1:]
    style = "btn go wide" if exceeds else "btn wide"
    rest = [
        (way.words, _effect(way), settings_button(way.settings, "Use", way.words, "btn s"))
        for way in others
    ]
    button = settings_button(first.settings, "Make it fit", first.words, style, "make-fit")
    count = fmt.plural(len(others), "other option")
    return render("plan", "fit", first.words, _effect(first), button, rest, count)


def _effect(way: FitSuggestion) -> str:
    fits = "" if way.fits else ", still too much"
    return f"{fmt.gib(way.gib)}{fits} · saves {fmt.gib(way.saves_gib)} · cost: {way.costs}"


def _recommended(report: Report) -> Markup:
    if not report.recommended:
        return EMPTY
    times = report.recommended_times
    gain = "suit this run" if not times or times < 1.05 else f"about {factor(times)} as fast"
    button = settings_button(
        report.recommended,
        "Use recommended",
        "the recommended settings",
        "btn s",
        "use-recommended",
    )
    return render("plan", "suggestion", el("b", "Recommended settings"), gain, button)


def _speedup_button(speedup: Speedup) -> Markup:
    if speedup.on:
        return chip("on", "good")
    # An optimization that would make this run slower is listed without a button.
    if speedup.times < 1 and speedup.gib >= 0:
        return chip("no gain here")
    return settings_button(speedup.settings, "Use", speedup.label, "btn s")


def _speedup_effect(speedup: Speedup) -> str:
    is_same = abs(speedup.times - 1) < MIN_GAIN
    speed = "about the same speed" if is_same else f"{factor(speedup.times)} the speed"
    if abs(speedup.gib) < MIN_GIB:
        return speed
    verb = "needs" if speedup.gib > 0 else "saves"
    return f"{speed} · {verb} {fmt.gib(abs(speedup.gib))}"


def factor(times: float) -> str:
    """Return a factor: 1.9 ×."""
    return f"{times:.2f} ×" if times < 1.1 else f"{times:.1f} ×"
