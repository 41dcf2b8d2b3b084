"""How our settings become options of another system: the words that its table is written with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Written
from modelforge.config.fields import specs_by_name

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


def elsewhere(where: str) -> Rule:
    """Return the rule of a setting that another one writes too."""
    return not_needed(f"Written with {where}.")
