"""Search for settings that make a run fit into the memory, or for another model that does.

Suggestions are judged by the same estimate as the run itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from modelforge.config.profiles import load_profiles
from modelforge.models.architecture import catalog_model_info
from modelforge.preflight.context import RunContext
from modelforge.preflight.suggest.memory_savers import LOSSY_SAVERS, SAVERS, Draft, Saver, Saving
from modelforge.preflight.suggest.speedups import estimate_speed

# Above this share of the free memory a run barely fits.
TIGHT = 0.9
# A suggestion that does not fit must save at least this share.
MIN_SAVED_SHARE = 0.03
MAX_SUGGESTIONS = 6
# The cost of each further change, and of a run that takes twice as long.
COST_PER_CHANGE = 0.5
COST_OF_DOUBLE_TIME = 5.0
MAX_COMBINATIONS = 3
# Slowdowns below are not mentioned; from NEARLY_TWICE on they are given as a factor.
NOTICEABLE, NEARLY_TWICE = 1.03, 1.95


@dataclass(frozen=True)
class FitSuggestion:
    """Settings that reduce the memory, with their description.

    Attributes:
        gib: The memory of the run with them.
        costs: What is lost by them, in words.
        fits: Whether the run fits into the free memory with them.
    """

    settings: dict[str, Any]
    words: str
    gib: float
    saves_gib: float
    costs: str
    fits: bool


@dataclass(frozen=True)
class LargestModel:
    """The largest model of the catalog that fits, with the settings for it."""

    name: str
    gib: float
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FitOptions:
    """Suggestions, the cheapest first; `largest` is set where none makes the run fit."""

    suggestions: list[FitSuggestion] = field(default_factory=list)
    largest: LargestModel | None = None


@dataclass(frozen=True)
class _Combination:
    """Changes applied one after the other, and the resulting draft."""

    start: Draft
    draft: Draft
    steps: tuple[tuple[Saver, Saving], ...]

    @property
    def cost(self) -> float:
        cost = sum(saving.cost for _, saving in self.steps)
        cost += COST_PER_CHANGE * (len(self.steps) - 1)
        return cost + COST_OF_DOUBLE_TIME * (self.slowdown - 1)

    @property
    def savers(self) -> frozenset[Saver]:
        return frozenset(saver for saver, _ in self.steps)

    @property
    def savers_by_cost(self) -> list[Saver]:
        """The savers, the most expensive first."""

        def cost(step: tuple[Saver, Saving]) -> float:
            return step[1].cost + COST_OF_DOUBLE_TIME * (step[1].slowdown - 1)

        return [saver for saver, _ in sorted(self.steps, key=cost, reverse=True)]

    @property
    def slowdown(self) -> float:
        """The factor on the duration, estimated where the speed is known."""
        before, after = estimate_speed(self.start.context), estimate_speed(self.draft.context)
        if before and after:
            return before / after
        return prod(saving.slowdown for _, saving in self.steps)


def is_tight(total: float | None, free: float | None) -> bool:
    """Return whether a run barely fits, or does not fit."""
    return total is not None and free is not None and total > TIGHT * free


def search_fit(context: RunContext) -> FitOptions:
    """Return the suggestions, and the largest model where a run cannot be made to fit."""
    suggestions = suggest_fits(context)
    total, free = context.memory_total_gib, context.available_gib
    is_new = context.config.pretraining.enabled
    if total is None or free is None or total <= free or suggestions or is_new:
        return FitOptions(suggestions)
    return FitOptions([], largest_model(context))


def suggest_fits(context: RunContext, savers: Sequence[Saver] = SAVERS) -> list[FitSuggestion]:
    """Return suggestions for a run that does not fit or barely fits, the cheapest first.

    Those that leave a margin come first, then those that barely fit, then single changes that
    only reduce the memory. Empty where the run fits, and where all changes together are too little.
    """
    total, free = context.memory_total_gib, _memory_limit(context)
    if total is None or free is None or not is_tight(total, free):
        return []
    start = Draft.of(context)
    found: list[_Combination] = []
    for goal in (TIGHT * free, free):
        if goal < total:
            found += _reaching(start, goal, savers)
    if not found:
        return []
    threshold = MIN_SAVED_SHARE * start.gib
    found += [
        single
        for single in _singles(start, 0.0, savers)
        if single.draft.gib > free and start.gib - single.draft.gib > threshold
    ]
    found.sort(key=lambda combination: _rank(combination, free))
    # Of combinations of the same kinds of change only the best one is suggested.
    unique: dict[frozenset[Saver], _Combination] = {}
    for combination in found:
        unique.setdefault(combination.savers, combination)
    return [_suggestion(each, free) for each in list(unique.values())[:MAX_SUGGESTIONS]]


def can_fit(context: RunContext) -> bool | None:
    """Return whether a run fits with all savings; None where it is unknown."""
    total, free = context.memory_total_gib, _memory_limit(context)
    if total is None or free is None:
        return None
    return total <= free or _combine(Draft.of(context), 0.0, SAVERS).draft.gib <= free


def largest_model(context: RunContext) -> LargestModel | None:
    """Return the largest model of the catalog that fits for this task, with its settings.

    Changes that reduce what is learned are used only where no model fits without them.
    """
    lossless = [saver for saver in SAVERS if saver not in LOSSY_SAVERS]
    return _largest_model(context, lossless) or _largest_model(context, SAVERS)


def _memory_limit(context: RunContext) -> float | None:
    free = context.available_gib
    return context.total_memory_gib if free is None else free


def _largest_model(context: RunContext, savers: Sequence[Saver]) -> LargestModel | None:
    # An adapter to start from belongs to its own model.
    reset = {} if context.config.adapter.start_from is None else {"adapter.start_from": None}
    for model in _catalog_models(context):
        name = model["name"]
        settings = {"model_name": name, **model["answers"], **reset}
        other = replace(context, model=catalog_model_info(model)).with_settings(settings)
        total, free = other.memory_total_gib, _memory_limit(other)
        if total is None or free is None:
            continue
        if not is_tight(total, free):
            return LargestModel(name, total, settings)
        if suggestion := next(iter(suggest_fits(other, savers)), None):
            return LargestModel(name, suggestion.gib, settings | suggestion.settings)
        if total <= free:
            return LargestModel(name, total, settings)
    return None


def _catalog_models(context: RunContext) -> list[Mapping[str, Any]]:
    """Return other models for this task and device, the largest first, without gated ones."""
    by_name = {
        model["name"]: model
        for profile in load_profiles().values()
        for model in profile.models
        if context.config.task in model["tasks"]
        and not model["gated"]
        and (model["practice"] or context.plan.device == "cuda")
    }
    current = context.model.name if context.model else ""
    others = [model for name, model in by_name.items() if name != current]
    return sorted(others, key=lambda model: -model["parameters"])


def _rank(combination: _Combination, free: float) -> tuple[bool, bool, float]:
    gib = combination.draft.gib
    return gib > free, is_tight(gib, free), gib if gib > free else combination.cost


def _reaching(start: Draft, goal: float, savers: Sequence[Saver]) -> list[_Combination]:
    """Return single changes that reach the goal, and combinations that cost less than them."""
    singles = [single for single in _singles(start, goal, savers) if single.draft.gib <= goal]
    cheapest = min((single.cost for single in singles), default=float("inf"))
    combinations = [each for each in _combinations(start, goal, savers) if len(each.steps) > 1]
    return [*singles, *(each for each in combinations if each.cost < cheapest)]


def _singles(start: Draft, goal: float, savers: Sequence[Saver]) -> list[_Combination]:
    combinations = [_combine(start, goal, [saver]) for saver in savers]
    return [each for each in combinations if each.steps]


def _combinations(start: Draft, goal: float, savers: Sequence[Saver]) -> list[_Combination]:
    """Return combinations that reach the goal: the first, and ones without its costly parts."""
    first = _pruned(start, goal, savers)
    if first is None:
        return []
    found = [first]
    for worst in first.savers_by_cost:
        other = _pruned(start, goal, [saver for saver in savers if saver is not worst])
        if other and all(each.draft.changes != other.draft.changes for each in found):
            found.append(other)
    return sorted(found, key=lambda each: each.cost)[:MAX_COMBINATIONS]


def _pruned(start: Draft, goal: float, savers: Sequence[Saver]) -> _Combination | None:
    """Return a combination that reaches the goal and of which every change is needed, or None."""
    combination = _combine(start, goal, savers)
    if combination.draft.gib > goal:
        return None
    used = [saver for saver, _ in combination.steps]
    for worst in combination.savers_by_cost:
        fewer = [saver for saver in used if saver is not worst]
        smaller = _combine(start, goal, fewer)
        if smaller.draft.gib <= goal:
            combination, used = smaller, fewer
    return combination


def _combine(start: Draft, goal: float, savers: Iterable[Saver]) -> _Combination:
    """Return the changes of these savers one after the other, until the goal is reached."""
    draft, steps = start, []
    for saver in savers:
        if draft.gib <= goal:
            break
        drafts = [(saving, draft.apply(saving.settings)) for saving in saver(draft)]
        lower = [(saving, each) for saving, each in drafts if each and each.gib < draft.gib]
        if not lower:
            continue
        best = min(lower, key=lambda pair: pair[1].gib)
        saving, draft = next((pair for pair in lower if pair[1].gib <= goal), best)
        steps.append((saver, saving))
    return _Combination(start, draft, tuple(steps))


def _suggestion(combination: _Combination, free: float) -> FitSuggestion:
    savings = [saving for _, saving in combination.steps]
    costs = [_describe_slowdown(combination.slowdown), *(saving.costs for saving in savings)]
    return FitSuggestion(
        settings=combination.draft.changes,
        words=_join([saving.words for saving in savings]),
        gib=combination.draft.gib,
        saves_gib=combination.start.gib - combination.draft.gib,
        costs="; ".join(dict.fromkeys(filter(None, costs))) or "hardly anything",
        fits=combination.draft.gib <= free,
    )


def _describe_slowdown(factor: float) -> str:
    if factor < NOTICEABLE:
        return ""
    if factor >= NEARLY_TWICE:
        return f"{factor:.1f} times as long"
    return f"about {100 * (factor - 1):.0f} % slower"


def _join(words: Sequence[str]) -> str:
    """Return several instructions as one sentence, without its full stop."""
    parts = [words[0], *(f"{text[0].lower()}{text[1:]}" for text in words[1:])]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
