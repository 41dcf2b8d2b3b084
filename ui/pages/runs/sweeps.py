"""Sweeps on the Runs page: one card for each, with its trials, their losses and the result."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.config.fields import specs_by_name
from modelforge.runs.scheduling.schedule_times import format_time
from modelforge.services.sweeps.service import SweepView
from modelforge.services.sweeps.space import Dimension
from modelforge.services.sweeps.study import OWN, Trial
from modelforge.services.targets.service import HERE
from ui.html import format as fmt
from ui.html.intervals import Dot, Scale, scale_of
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render

# Shown without a click: trials of a sweep in progress, and sweeps that are over.
MOST_TRIALS, MOST_ENDED = 8, 2
# Losses above this share of all are drawn at the edge, so that one bad trial does not flatten the
# others.
SHOWN_SHARE = 0.9
WIDTH, HEIGHT = 100.0, 34.0
# Below it, decimal numbers have an exponent.
SMALL = 0.01
# The kind of a result → its label and tone.
RESULTS = {
    "better": ("better settings found", "good"),
    "own": ("yours are best", ""),
    "no-difference": ("no difference shown", ""),
    "worse": ("no difference shown", ""),
    "too-few-rows": ("too few rows", ""),
    "no-result": ("no result", "warn"),
}


@dataclass(frozen=True)
class Spark:
    """A trial as a small curve; `path` is SVG in a box of WIDTH x HEIGHT."""

    trial: Trial
    values: str
    path: str
    state: str
    tone: str


def sweep_cards(
    views: Sequence[SweepView], opened: Collection[str], waiting: Collection[str]
) -> Markup:
    """Return the sweeps, those in progress first; nothing without one.

    `opened` are the ids of sweeps that show all trials, and "ended" for all sweeps that are over;
    `waiting` are the ids of the runs in the queue.
    """
    active = [view for view in views if not view.is_over]
    ended = [view for view in views if view.is_over]
    shown = ended if "ended" in opened else ended[:MOST_ENDED]
    cards = [_active_card(view, opened, waiting, time.time()) for view in active]
    cards += [_ended_card(view, opened) for view in shown]
    if len(ended) > len(shown):
        cards.append(render("sweeps", "earlier", len(ended) - len(shown)))
    return join(cards)


def _active_card(
    view: SweepView, opened: Collection[str], waiting: Collection[str], now: float
) -> Markup:
    current = [trial for trial in view.trials if trial.is_running]
    waits = frozenset(trial.number for trial in current if not trial.run or trial.run in waiting)
    share = min(1.0, (now - view.created) / (view.deadline - view.created))
    best = next((trial for trial in view.trials if trial.number == view.best), None)
    own = next((trial for trial in view.trials if trial.number == OWN), None)
    return render(
        "sweeps",
        "active",
        view,
        (format_time(view.created, now), format_time(now, now), format_time(view.deadline, now)),
        f"{100 * share:.1f}%",
        _chip(view, current, waits),
        _state(view, current, waits, now),
        _varied(view.dimensions, own, best),
        best,
        own,
        _trials(view, opened, waits),
    )


def _chip(view: SweepView, current: Sequence[Trial], waits: Collection[int]) -> str:
    if not current:
        return "comparing" if view.is_comparing else fmt.plural(len(view.trials), "trial")
    training = [trial for trial in current if trial.number not in waits]
    if len(training) > 1:
        return f"{len(training)} trials train"
    return f"trial {(training or current)[0].number + 1} {'trains' if training else 'waits'}"


def _state(
    view: SweepView, current: Sequence[Trial], waits: Collection[int], now: float
) -> tuple[str, str]:
    """Return the time left and what happens now."""
    left = fmt.duration(view.deadline - now) if view.deadline > now else ""
    if view.is_stopped:
        return left, "It stops: the result is that of the trials so far."
    if view.is_comparing:
        return left, "The best trial and your own settings are compared row by row."
    if not current:
        return left, "The next trial is about to begin."
    paused = sum(trial.paused > 0 for trial in view.trials)
    stopped = sum(trial.state == "pruned" for trial in view.trials)
    behind = f"; {fmt.plural(paused, 'trial')} paused" if paused else ""
    behind += f"; {fmt.plural(stopped, 'trial')} stopped early" if stopped else ""
    training = [trial for trial in current if trial.number not in waits]
    if not training:
        place = "this computer is" if current[0].on == HERE else f"{current[0].on} is"
        place = place if len(current) == 1 else "their places are"
        verb = "waits" if len(current) == 1 else "wait"
        return left, f"{_numbers(current)} {verb} until {place} free{behind}."
    own = " with your own settings" if [trial.number for trial in training] == [OWN] else ""
    verb = "is" if len(training) == 1 else "are"
    return left, f"{_numbers(training)}{own} {verb} training{behind}."


def _numbers(trials: Sequence[Trial]) -> str:
    """Return trials in words: Trial 3, or Trials 1, 4 and 5."""
    *others, last = (str(trial.number + 1) for trial in trials)
    return f"Trials {', '.join(others)} and {last}" if others else f"Trial {last}"


def _ended_card(view: SweepView, opened: Collection[str]) -> Markup:
    result = view.result or {}
    label, tone = RESULTS.get(str(result.get("kind")), ("finished", ""))
    best = view.best if view.best != OWN else None
    plot = _difference_plot(result)
    trials = _trials(view, opened, ()) if view.id in opened else EMPTY
    return render("sweeps", "ended", view, result, (label, tone), best, plot, trials)


def _difference_plot(result: Mapping[str, Any]) -> tuple[Dot, Scale, str, str, str] | None:
    """Return how much better the best trial is, its scale, where zero is, its value, and of what.

    None where it was not compared.
    """
    difference, interval = result.get("difference"), result.get("interval")
    if difference is None or not interval or None in interval:
        return None
    side = str(result.get("better") or "lower")
    sign = -1 if side == "lower" else 1
    low, high = sorted(sign * end for end in interval)
    dot = Dot("best trial against your settings", "tuned", sign * difference, (low, high))
    scale = scale_of([dot, Dot("no difference", "base", 0.0)])
    metric = str(result.get("metric") or "loss").capitalize()
    return dot, scale, scale.place(0.0), fmt.number(dot.value, 3), f"{metric} {side}"


def _varied(
    dimensions: Sequence[Dimension], own: Trial | None, best: Trial | None
) -> list[tuple[str, str, str, str]]:
    """Return of each setting that is varied its label, range, own value and best value."""
    rows = []
    for each in dimensions:
        values = (trial and shown_value(trial.values.get(each.name)) for trial in (own, best))
        yours, found = (value or fmt.UNKNOWN for value in values)
        rows.append((label_of(each.name), range_text(each), yours, found))
    return rows


def _trials(view: SweepView, opened: Collection[str], waits: Collection[int]) -> Markup:
    """Return the trials as small curves on one scale, the best first."""
    if not view.trials:
        return EMPTY
    low, high = _loss_range(view.trials)
    ordered = sorted(view.trials, key=lambda trial: _rank(trial, view.best))
    is_open = view.id in opened
    shown = ordered if is_open or len(ordered) <= MOST_TRIALS else ordered[:MOST_TRIALS]
    sparks = [
        Spark(
            trial,
            " · ".join(_short_value(name, value) for name, value in trial.values.items()),
            _path(trial.losses, view.total_steps, low, high),
            *_trial_state(trial, view.best, is_over=view.is_over, waits=trial.number in waits),
        )
        for trial in shown
    ]
    return render("sweeps", "trials", view.id, sparks, len(ordered) - len(shown))


def _rank(trial: Trial, best: int | None) -> tuple[int, float, float]:
    """Return the place of a trial: the best, those in progress, then by steps and loss."""
    order = {"running": 1, "complete": 2, "paused": 3, "pruned": 4}.get(trial.state, 5)
    steps = max(trial.losses, default=0)
    loss = trial.loss if trial.loss is not None else float("inf")
    return (0 if trial.number == best else order, -steps if order in (3, 4) else 0, loss)


def _trial_state(trial: Trial, best: int | None, *, is_over: bool, waits: bool) -> tuple[str, str]:
    """Return the state of a trial in words, and the tone of its curve."""
    whose = "yours, " if trial.number == OWN else ""
    if trial.number == best:
        return f"{whose}best" if is_over else f"{whose}best so far", "on"
    if trial.is_running:
        doing = "waits" if waits else "training"
        return f"{whose}{doing}{'' if trial.on == HERE else f' · {trial.on}'}", ""
    if trial.paused:
        return f"paused, step {trial.paused}", ""
    if trial.state == "pruned":
        return f"stopped, step {max(trial.losses, default=0)}", "out"
    return (f"{whose}done", "") if trial.state == "complete" else ("failed", "out")


def _loss_range(trials: Sequence[Trial]) -> tuple[float, float]:
    """Return the lowest and the highest loss that the curves show."""
    losses = sorted(loss for trial in trials for loss in trial.losses.values())
    if not losses:
        return 0.0, 1.0
    return losses[0], losses[int(SHOWN_SHARE * (len(losses) - 1))]


def _path(losses: Mapping[int, float], total: int, low: float, high: float) -> str:
    """Return losses as the path of an SVG; a single loss is a point."""
    span = (high - low) or 1.0
    points = [
        f"{WIDTH * step / total:.1f} {HEIGHT * (1 - min(1.0, (loss - low) / span)):.1f}"
        for step, loss in sorted(losses.items())
    ]
    return f"M{'L'.join(points)}{'h0' if len(points) == 1 else ''}" if points else ""


def label_of(name: str) -> str:
    """Return the label of a setting."""
    return specs_by_name()[name].label


def range_text(dimension: Dimension) -> str:
    """Return the values of a setting that is varied: 1e-5 to 1e-3, or 8, 16, 32."""
    if dimension.choices:
        return ", ".join(shown_value(value) for value in dimension.choices)
    return f"{shown_value(dimension.low)} to {shown_value(dimension.high)}"


def shown_value(value: object) -> str:
    """Return the value of a setting, a decimal number with two digits: 2.4e-4, 0.05, 32, on."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, float):
        return str(value)
    if value == 0 or abs(value) >= SMALL:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _short_value(name: str, value: object) -> str:
    """Return a value with its setting where that is not clear: 2.4e-4, rank 32."""
    if name == "learning_rate":
        return shown_value(value)
    return f"{label_of(name).removeprefix('LoRA ').lower()} {shown_value(value)}"
