"""How the options of another system become settings: the words that its table is written with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelforge.config.importers.report import Outcome, Result

# The options of a file by dotted name; what the file leaves out has the default of its system.
# Files beside it stand under their names.
Values = Mapping[str, Any]
Read = Callable[[Any, Values], Outcome]
Convert = Callable[[Any], Any]


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


# An option without a default that would matter here.
ABSENT: Final = _Absent()
TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "number": (int, float),
    "text": (str,),
    "list": (list,),
    "map": (dict,),
    "names": (list, str),
    "numeric": (int, float, str),
    "list or map": (list, dict),
    "map or text": (dict, str),
    "number or text": (int, float, str),
}


@dataclass(frozen=True)
class Option:
    """One option of another system.

    Attributes:
        read: Returns what its value becomes.
        default: The system's own default, which applies where the file leaves the option out.
        kind: Type of its values, a key of `TYPES`; empty if its setting checks them.
        choices: The values that the system knows; empty for any.
        least, most: Bounds of a number.
    """

    read: Read
    default: Any = ABSENT
    kind: str = ""
    choices: tuple[Any, ...] = ()
    least: float | None = None
    most: float | None = None


def taken(setting: str, default: Any = ABSENT, **bounds: Any) -> Option:
    """Return an option that is a setting of the same name and meaning."""
    return Option(lambda value, _: Outcome("taken", {setting: value}), default, **bounds)


def renamed(setting: str, default: Any = ABSENT, **bounds: Any) -> Option:
    """Return an option whose setting has another name."""
    return Option(lambda value, _: Outcome("renamed", {setting: value}), default, **bounds)


def converted(
    setting: str, convert: Convert, why: str, default: Any = ABSENT, **bounds: Any
) -> Option:
    """Return an option whose value is written differently here; `why` says how."""

    def read(value: Any, _: Values) -> Outcome:
        return Outcome("converted", {setting: convert(value)}, why)

    return Option(read, default, **bounds)


def words(
    setting: str, known: Mapping[Any, Any], default: Any = ABSENT, why: str = "", **bounds: Any
) -> Option:
    """Return an option with a list of values, each of which has another word here."""

    def read(value: Any, _: Values) -> Outcome:
        new = known[value]
        result: Result = "renamed" if new == value else "converted"
        return Outcome(result, {setting: new}, "" if new == value else why)

    return Option(read, default, choices=tuple(known), **bounds)


def no_effect(why: str, **bounds: Any) -> Option:
    """Return an option that changes nothing here."""
    return Option(lambda _value, _: Outcome("no-effect", why=why), **bounds)


def refused(why: str, unless: Any = ABSENT, **bounds: Any) -> Option:
    """Return an option that cannot be had here, but for the value `unless`, which asks nothing."""

    def read(value: Any, _: Values) -> Outcome:
        if value == unless:
            return Outcome("no-effect", why="This value asks for nothing.")
        return Outcome("refused", why=why)

    return Option(read, **bounds)


def by(read: Read, default: Any = ABSENT, **bounds: Any) -> Option:
    """Return an option that a function of its own reads, which sees the other options too."""
    return Option(read, default, **bounds)


def number(value: Any) -> Any:
    """Return text such as 2e-4 as a number, as these systems read it; other values as they are."""
    if not isinstance(value, str):
        return value
    for convert in (int, float):
        try:
            found = convert(value)
        except ValueError:
            continue
        return found if math.isfinite(found) else value
    return value


def coming(feature: str, unless: Any = ABSENT, **bounds: Any) -> Option:
    """Return an option of a feature that is announced and not there yet."""
    return refused(f"It comes with {feature}, which is not there yet.", unless, **bounds)
