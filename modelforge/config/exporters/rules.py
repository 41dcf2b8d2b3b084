"""How our settings become options of another system: the words that its table is written with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Written
from modelforge.config.fields import specs_by_name
from modelforge.config.plan.run_length import ruling_measure

# The value of a setting and everything else -> what it becomes.
Rule = Callable[[Any, Facts], Written]
# What a setting can be left out at, without any effect.
_OFF: tuple[Any, ...] = (None, "", False, 0, [], {})


def option(name: str) -> Rule:
    """Return the rule of a setting whose option has the same meaning; None is left out."""
    return lambda value, _: Written({} if value is None else {name: value})


def words(name: str, known: Mapping[Any, Any], why: str) -> Rule:
    """Return the rule of a setting with other words there; other values are left out."""

    def write(value: Any, _: Facts) -> Written:
        if value not in known:
            return Written(why=why, is_lost=True)
        new = known[value]
        return Written({name: new}, "" if new == value else "The same under its name there.")

    return write


def names(name: str) -> Rule:
    """Return the rule of a text of names with commas, which is a list there."""

    def write(value: str, _: Facts) -> Written:
        found = [part.strip() for part in (value or "").split(",") if part.strip()]
        return Written({name: found} if found else {}, "A list there." if found else "")

    return write


def left_out(why: str, unless: Iterable[Any] | None = None) -> Rule:
    """Return the rule of a setting that the system cannot say.

    Nothing is lost by the values `unless`; if they are not given, by any value that asks nothing.
    """
    neutral = _OFF if unless is None else tuple(unless)

    def write(value: Any, _: Facts) -> Written:
        if any(value == each and type(value) is type(each) for each in neutral):
            return Written(why="This value asks for nothing.")
        return Written(why=why, is_lost=True)

    return write


def default_only(setting: str, why: str) -> Rule:
    """Return the rule of a setting that the system cannot say, with our default as what it does."""
    return left_out(why, [specs_by_name()[setting].default])


def not_needed(why: str) -> Rule:
    """Return the rule of a setting that does not change the trained model."""
    return lambda _value, _facts: Written(why=why)


def rope_group(value: str, facts: Facts) -> Written:
    """Write a rope scaling as a group of its type and its factor."""
    factor = facts.plan.rope_factor if facts.plan else facts.config.model.rope_factor
    if value == "none" or factor == 1:
        return Written(why="This value asks for nothing.")
    if factor is None:
        why = "The factor that the longest row needs is not known without the data."
        return Written(why=why, is_lost=True)
    return Written({"rope_scaling": {"type": value, "factor": factor}}, "A group there.")


def steps(value: int, facts: Facts) -> Written:
    """Return the steps after which training ends."""
    used = facts.max_steps
    return Written({"max_steps": used}, "" if used == value else "The steps that the plan counts.")


def learning_rate(value: float, facts: Facts) -> Written:
    """Return the highest rate of the schedule."""
    used = facts.learning_rate
    return Written({"learning_rate": used}, "" if used == value else "The rate of the plan.")


def steps_of(measure: str) -> Rule:
    """Return the rule of a measure of the length that the system lacks: its steps, if known."""

    def write(value: Any, facts: Facts) -> Written:
        if value is None:
            return Written(why="This value asks for nothing.")
        ruling = ruling_measure(facts.config)
        if ruling != measure:
            return Written(why=f"{ruling} decides the length.")
        if facts.total_steps is None:
            why = "There is no such measure, and its steps follow from the rows: give max_steps."
            return Written(why=why, is_lost=True)
        return Written({"max_steps": facts.total_steps}, "The steps that the plan counts.")

    return write


def fractional_epochs(option_name: str) -> Rule:
    """Return the rule of a part of an epoch, where the epochs of the system need not be whole."""

    def write(value: float | None, facts: Facts) -> Written:
        if value is None:
            return Written(why="This value asks for nothing.")
        ruling = ruling_measure(facts.config)
        if ruling != "trainer.fractional_epochs":
            return Written(why=f"{ruling} decides the length.")
        return Written({option_name: value}, "Epochs need not be whole there.")

    return write


def elsewhere(where: str) -> Rule:
    """Return the rule of a setting that another one writes too."""
    return not_needed(f"Written with {where}.")
