"""How a run that does not fit can be made to fit: ways ranked by what they cost, or another model.

The estimate that judges a run judges its ways too, so what is offered as fitting does fit by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

from modelforge.config.profiles import load_profiles
from modelforge.models.catalog import catalog_model_info
from modelforge.preflight.speed import estimate_step
from modelforge.preflight.suggest.memory_savers import FAMILIES, LOSING, Draft, Family, Step

if TYPE_CHECKING:
    from modelforge.preflight.context import RunContext

# Above this share of what is free a run fits only just.
TIGHT = 0.9
# A way that saves a smaller share is not worth a line, unless it is enough.
LEAST_SHARE = 0.03
MOST_WAYS = 6
# What each further change counts, so that one change goes before two that cost the same.
EACH_MORE = 0.5
# What counts as much as twice the time does, in pain.
TWICE_AS_LONG = 5.0
ALTERNATIVES = 3
NOTICED, NEARLY_TWICE = 1.03, 1.95


@dataclass(frozen=True)
class FitSuggestion:
    """Settings that lower the memory: the total they come to, what they save and what they cost.

    `fits` says whether the total is within what is free.
    """

    settings: dict[str, Any]
    words: str
    gib: float
    saves_gib: float
    costs: str
    fits: bool


@dataclass(frozen=True)
class LargestModel:
    """The largest model of the catalogue that fits, and what is set beside its name."""

    name: str
    title: str
    gib: float
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Mix:
    """Some steps one after the other, and where they lead."""

    start: Draft
    draft: Draft
    steps: tuple[tuple[Family, Step], ...]

    @property
    def pain(self) -> float:
        felt = sum(step.pain for _, step in self.steps)
        return felt + EACH_MORE * (len(self.steps) - 1) + TWICE_AS_LONG * (self.times - 1)

    @property
    def families(self) -> frozenset[Family]:
        return frozenset(family for family, _ in self.steps)

    @property
    def times(self) -> float:
        """How many times as long training takes, by the estimate of speed where there is one."""
        case, usual = self.start.case, prod(step.times for _, step in self.steps)
        if case.facts is None or case.look is None:
            return usual
        before, after = (
            estimate_step(one.config, one.plan, case.machine, case.facts, case.look)
            for one in (self.start.case, self.draft.case)
        )
        return before.tokens_per_s / after.tokens_per_s if before and after else usual


def limit_gib(case: RunContext) -> float | None:
    """Return how much memory a run may take here; None when nobody knows."""
    return case.total_memory_gib if case.available_gib is None else case.available_gib


def is_tight(total: float | None, free: float | None) -> bool:
    """Say whether so much fits only just, or not at all."""
    return total is not None and free is not None and total > TIGHT * free


def suggest_fits(case: RunContext, families: Sequence[Family] = FAMILIES) -> list[FitSuggestion]:
    """Return what makes a run fit that does not, or only just; what costs least comes first.

    Before all others come those that leave some room, then those that fit only just, and last
    single changes that merely save something. Nothing where all is well, and nothing where not
    even all changes together are enough.
    """
    total, free = case.memory_total_gib, limit_gib(case)
    if total is None or free is None or not is_tight(total, free):
        return []
    now = Draft.of(case)
    found: list[_Mix] = []
    for goal in (TIGHT * free, free):
        if goal < total:
            found += _towards(now, goal, families)
    if not found:
        return []
    found += [
        one
        for one in _singles(now, 0.0, families)
        if one.draft.gib > free and now.gib - one.draft.gib > LEAST_SHARE * now.gib
    ]
    ranked = sorted(found, key=lambda one: _rank(one, free))
    # The same kinds of change once more, only less of them, are no other way.
    unlike: dict[frozenset[Family], _Mix] = {}
    for one in ranked:
        unlike.setdefault(one.families, one)
    return [_way(one, free) for one in list(unlike.values())[:MOST_WAYS]]


def can_fit(case: RunContext) -> bool | None:
    """Say whether a run fits with all that can be saved; None when nobody knows."""
    total, free = case.memory_total_gib, limit_gib(case)
    if total is None or free is None:
        return None
    return total <= free or _mixed(Draft.of(case), 0.0, FAMILIES).draft.gib <= free


def largest_model(case: RunContext) -> LargestModel | None:
    """Return the largest model of the catalogue that can do this task here, settings included.

    One that learns less for it is taken only where no other fits.
    """
    gentle = [family for family in FAMILIES if family not in LOSING]
    return _largest(case, gentle) or _largest(case, FAMILIES)


def _largest(case: RunContext, families: Sequence[Family]) -> LargestModel | None:
    for model in _catalogue(case):
        settings = {"model_name": model["name"], **model["answers"], **_anew(case)}
        other = _on(case, model, settings)
        total, free = other.memory_total_gib, limit_gib(other)
        if total is None or free is None:
            continue
        if not is_tight(total, free):
            return LargestModel(model["name"], model["title"], total, settings)
        if first := next(iter(suggest_fits(other, families)), None):
            both = settings | first.settings
            return LargestModel(model["name"], model["title"], first.gib, both)
        if total <= free:
            return LargestModel(model["name"], model["title"], total, settings)
    return None


def _rank(mix: _Mix, free: float) -> tuple[bool, bool, float]:
    gib = mix.draft.gib
    return gib > free, is_tight(gib, free), gib if gib > free else mix.pain


def _towards(now: Draft, goal: float, families: Sequence[Family]) -> list[_Mix]:
    """Return what reaches the goal: single changes, and combinations where they cost less."""
    single = [one for one in _singles(now, goal, families) if one.draft.gib <= goal]
    cheapest = min((one.pain for one in single), default=float("inf"))
    combined = _combined(now, goal, families)
    return [*single, *(one for one in combined if len(one.steps) > 1 and one.pain < cheapest)]


def _singles(now: Draft, goal: float, families: Sequence[Family]) -> list[_Mix]:
    found = [_mixed(now, goal, [family]) for family in families]
    return [one for one in found if one.steps]


def _combined(now: Draft, goal: float, families: Sequence[Family]) -> list[_Mix]:
    """Return combinations that reach the goal: the gentlest, and others without its worst parts."""
    first = _pruned(now, goal, families)
    if first is None:
        return []
    found = [first]
    for worst in _by_pain(first):
        other = _pruned(now, goal, [one for one in families if one is not worst])
        if other is not None and all(one.draft.said != other.draft.said for one in found):
            found.append(other)
    return sorted(found, key=lambda one: one.pain)[:ALTERNATIVES]


def _pruned(now: Draft, goal: float, families: Sequence[Family]) -> _Mix | None:
    """Return a combination that reaches the goal and that no step can be left out of, or None."""
    mix = _mixed(now, goal, families)
    if mix.draft.gib > goal:
        return None
    used = [family for family, _ in mix.steps]
    for worst in _by_pain(mix):
        fewer = [family for family in used if family is not worst]
        less = _mixed(now, goal, fewer)
        if less.draft.gib <= goal:
            mix, used = less, fewer
    return mix


def _by_pain(mix: _Mix) -> list[Family]:
    """Return the families of a mix, the one that costs most first."""
    felt = [(step.pain + TWICE_AS_LONG * (step.times - 1), family) for family, step in mix.steps]
    return [family for _, family in sorted(felt, key=lambda pair: -pair[0])]


def _mixed(now: Draft, goal: float, families: Iterable[Family]) -> _Mix:
    """Return the steps of these families one after the other, until the goal is reached."""
    draft, steps = now, []
    for family in families:
        if draft.gib <= goal:
            break
        tried = [(step, draft.after(step.settings)) for step in family(draft)]
        lower = [(step, one) for step, one in tried if one is not None and one.gib < draft.gib]
        if not lower:
            continue
        best = min(lower, key=lambda pair: pair[1].gib)
        step, draft = next((pair for pair in lower if pair[1].gib <= goal), best)
        steps.append((family, step))
    return _Mix(now, draft, tuple(steps))


def _way(mix: _Mix, free: float) -> FitSuggestion:
    steps = [step for _, step in mix.steps]
    costs = [_longer(mix.times), *(step.costs for step in steps)]
    return FitSuggestion(
        settings=mix.draft.said,
        words=_together([step.words for step in steps]),
        gib=mix.draft.gib,
        saves_gib=mix.start.gib - mix.draft.gib,
        costs="; ".join(dict.fromkeys(filter(None, costs))) or "hardly anything",
        fits=mix.draft.gib <= free,
    )


def _longer(times: float) -> str:
    if times < NOTICED:
        return ""
    return (
        f"{times:.1f} times as long" if times >= 1.95 else f"about {100 * (times - 1):.0f} % slower"
    )


def _together(words: Sequence[str]) -> str:
    """Return several things to do as one sentence, without its full stop."""
    low = [words[0], *(f"{one[0].lower()}{one[1:]}" for one in words[1:])]
    return low[0] if len(low) == 1 else f"{', '.join(low[:-1])} and {low[-1]}"


def _catalogue(case: RunContext) -> list[Mapping[str, Any]]:
    """Return the models that could do this task here, the largest first, gated ones left out."""
    by_name = {
        model["name"]: model
        for profile in load_profiles().values()
        for model in profile.models
        if case.config.task in model["tasks"]
        and not model["gated"]
        and (model["practice"] or case.plan.device == "cuda")
    }
    mine = case.facts.name if case.facts else ""
    return sorted(
        (model for name, model in by_name.items() if name != mine),
        key=lambda model: -model["parameters"],
    )


def _anew(case: RunContext) -> dict[str, Any]:
    # An adapter belongs to the model that it was trained on.
    return {} if case.config.adapter.start_from is None else {"adapter.start_from": None}


def _on(case: RunContext, model: Mapping[str, Any], settings: Mapping[str, Any]) -> RunContext:
    """Return the same run on another model."""
    return replace(case, facts=catalog_model_info(model)).with_settings(settings)
