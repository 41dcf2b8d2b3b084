"""What preflight says of the settings themselves: not here yet, changed, unusual."""

from __future__ import annotations

import math
from collections.abc import Iterator

from modelforge.config.plan import Change
from modelforge.errors import Finding
from modelforge.preflight.case import Case

WORKS_NOW = {
    "task": ("text-generation",),
    "strategy": ("sft", "qlora"),
    "provider": ("huggingface",),
}
ADVISED_RATE = {"sft": 2e-4, "qlora": 2e-4, "rlhf": 1.41e-5, "dpo": 5e-7}
FEWEST_UPDATES = 10


def not_here_yet(case: Case) -> Iterator[Finding]:
    """Refuse what this version cannot train, and say what it can."""
    for where, works in WORKS_NOW.items():
        asked = getattr(case.config, where)
        if asked not in works:
            yield Finding(
                "blocker",
                "not-here-yet",
                f"The {where} {asked} is not in this version of ModelForge yet; "
                f"what works now: {', '.join(works)}.",
                f"Choose the {where} {works[0]}.",
                where,
                works[0],
            )


def plan_changes(case: Case) -> Iterator[Finding]:
    """Tell every setting that is used otherwise than it stands."""
    for change in case.plan.changes:
        yield Finding("note", "plan-changed", _in_words(change), where=change.where)


def learning_rate(case: Case) -> Iterator[Finding]:
    """Warn of a rate that is ten times off what the strategy is usually trained with."""
    rate, advised = case.config.learning_rate, ADVISED_RATE[case.config.strategy]
    times = max(rate / advised, advised / rate)
    if times < 10 * (1 - 1e-9):
        return
    harm = "the model may forget what it knew" if rate > advised else "it may learn next to nothing"
    yield Finding(
        "caution",
        "learning-rate-unusual",
        f"The learning rate {rate:g} is {times:.0f} times "
        f"{'above' if rate > advised else 'below'} the usual {advised:g} for "
        f"{case.config.strategy}; {harm}.",
        f"Use {advised:g}, or keep it if you know why.",
        "learning_rate",
        advised,
    )


def few_updates(case: Case) -> Iterator[Finding]:
    """Warn of a run that is over before it has learned anything."""
    total = case.plan.total_steps
    if total is None or total >= FEWEST_UPDATES:
        return
    if case.config.max_steps > 0:
        where, better = "max_steps", FEWEST_UPDATES
    else:
        each = total / case.config.num_train_epochs
        where, better = "num_train_epochs", math.ceil(FEWEST_UPDATES / each)
    yield Finding(
        "caution",
        "few-updates",
        f"The run has {_count(total, 'update')}; below {FEWEST_UPDATES} a model hardly learns.",
        f"Set {'most updates' if where == 'max_steps' else 'epochs'} to {better}, use more rows, "
        "or lower the accumulation.",
        where,
        better,
    )


def _in_words(change: Change) -> str:
    instead = "" if change.said is None else f" instead of {_value(change.said)}"
    return f"{_value(change.used)} is used{instead}. {change.reason}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
