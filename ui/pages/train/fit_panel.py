"""Does it fit: the word for it, the ways to make it fit, and the badges of models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelforge.preflight.report import Report
from modelforge.preflight.suggest.catalog_fit import FitEstimate
from modelforge.preflight.suggest.fit import FitSuggestion, is_tight
from modelforge.units import GIB
from ui.html import format as words
from ui.html.markup import Safe, el, join
from ui.pages.train.form import shown

# What the block of ways says already.
SAID_HERE = frozenset({"memory-short", "ram-short", "memory-option"})


def verdict(total: float | None, free: float | None) -> tuple[str, str]:
    """Return the word for whether so much fits into what is free, and its tone."""
    if total is None or free is None:
        return "unknown", ""
    if total > free:
        return "does not fit", "bad"
    return ("tight", "warn") if is_tight(total, free) else ("fits", "good")


def chip(total: float | None, free: float | None, told: str = "") -> Safe:
    """Return that word on its colour, with what is `told` beside it."""
    word, tone = verdict(total, free)
    return el("span.chip", f"{word} · {told}" if told else word, class_=tone or None)


def badge(need: FitEstimate, about: str = "") -> Safe | None:
    """Return whether a model fits and what it would need; None where nobody knows."""
    if need.gib is None or need.free_gib is None:
        return None
    return chip(need.gib, need.free_gib, f"{about}{words.gib(need.gib)}")


def is_hopeless(need: FitEstimate) -> bool:
    """Say whether a model cannot be made to fit."""
    return need.fits is False and need.can_fit is False


def is_red(report: Report | None) -> bool:
    """Say whether a run needs more memory than is free."""
    if report is None or report.memory_total_gib is None or report.memory_available_gib is None:
        return False
    return report.memory_total_gib > report.memory_available_gib


def block(report: Report) -> Safe:
    """Return what makes a run fit that does not, or only just; nothing where all is well."""
    total, free = report.memory_total_gib, report.memory_available_gib
    if total is None or free is None or not is_tight(total, free):
        return Safe("")
    if report.ways:
        return _offered(report.ways, is_red=total > free)
    if total <= free:
        return Safe("")
    if report.largest_model is None:
        told = "It cannot be made to fit into what is free, nor can any model of the catalogue."
        return el("div.fit", el("p", told, el("small", "Close other programs to free memory.")))
    return el(
        "div.fit",
        el("p", "It cannot be made to fit here. The largest model that fits is "
            f"{words.model(report.largest_model)}."),
        button(
            report.largest_settings,
            f"Use {words.model(report.largest_model)}",
            f"the model {words.model(report.largest_model)}",
            "btn go wide",
            "make-fit",
        ),
    )  # fmt: skip


def button(
    settings: Mapping[str, Any], label: str, words_: str, class_: str, key: str | None = None
) -> Safe:
    """Return a button that says several settings at once; `words_` are for the undo."""
    return el(
        "button",
        label,
        type="button",
        id=key,
        class_=class_,
        data_do="apply",
        data_settings=json.dumps({name: shown(value) for name, value in settings.items()}),
        data_words=words_,
        title=", ".join(f"{name}: {shown(value) or 'empty'}" for name, value in settings.items()),
        aria_label=None if key else f"{label}: {words_}",
    )


def _offered(ways: list[FitSuggestion], *, is_red: bool) -> Safe:
    first, others = ways[0], ways[1:]
    style = "btn go wide" if is_red else "btn wide"
    return el(
        "div.fit",
        button(first.settings, "Make it fit", first.words, style, "make-fit"),
        el("p", f"{first.words}.", el("small", _figures(first))),
        el(
            "details.others",
            el("summary", words.plural(len(others), "other way")),
            [
                el(
                    "div.way",
                    el("div", way.words, el("small", _figures(way))),
                    button(way.settings, "Use", way.words, "btn s"),
                )
                for way in others
            ],
            id="other-ways",
        )
        if others
        else None,
    )


def _figures(way: FitSuggestion) -> str:
    fits = "" if way.fits else ", still too much"
    return f"{words.gib(way.gib)}{fits} · saves {words.gib(way.saves_gib)} · costs: {way.costs}"


def undo() -> Safe:
    """Return the line of what was changed by a click, empty and hidden until there is some."""
    return el(
        "p.applied",
        el("span#applied-words"),
        el("button.btn.s", "Undo", type="button", data_do="unapply", id="unapply"),
        role="status",
        hidden=True,
    )


def toggle() -> Safe:
    """Return the switch that shows models which cannot be made to fit."""
    return el(
        "label.tick.showing",
        el("input#show-hopeless", type="checkbox"),
        el("span", "Show models that do not fit"),
    )


def basis(report: Report) -> str:
    """Return what the numbers rest on, in a sentence or two."""
    return {
        "formula": "Estimated from the model's shape. Rehearse to measure.",
        "traced": "Memory traced from the model's own code. Rehearse to measure.",
        "trial_run": "Measured in a rehearsal."
        if report.seconds_basis == "trial_run"
        else "Memory measured in a rehearsal.",
    }.get(report.memory_basis or "", "Estimated. Rehearse to measure.")


def measured(report: Report) -> Safe:
    """Return the numbers that only a rehearsal gives; nothing before one."""
    told = report.trial_run
    if not told:
        return Safe("")
    rows = [
        ("An update", words.pace(told.get("seconds_per_update"))),
        ("A checkpoint", _size(told.get("checkpoint_gib"))),
    ]
    return join([el("div.row", el("span", name), el("span.num", value)) for name, value in rows])


def _size(gib: float | None) -> str:
    return words.UNKNOWN if gib is None else words.size(gib * GIB)
