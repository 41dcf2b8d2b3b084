"""How the options of another system become settings: the words that its table is written with."""

from __future__ import annotations

import json
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
ROPE_TYPES = ("linear", "dynamic", "yarn")
# What a scaling that is written as a group may hold.
_ROPE_KEYS = ("type", "rope_type", "factor", "original_max_position_embeddings")
UNDERFLOW = "Weights that are trained in full cannot be float16: their gradients underflow."
HUB_KERNEL = (
    "It is native code of the Hub, so sdpa is used; to use it, set model.attn_implementation to "
    "its name and model.allow_hub_kernels."
)


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


def rope_scaling(length: str = "") -> Option:
    """Return the option of a scaling: its type, or a group or JSON with type and factor.

    `length` is the option with the length that a type alone shall reach; empty if the rows decide.
    """

    def read(value: Any, values: Values) -> Outcome:
        scaling = _group(value)
        if scaling is None:
            return _by_type(value, values.get(length) if length else None)
        return _by_group(scaling)

    return by(read)


def rope_factor(value: Any, _: Values) -> Outcome:
    """Return what a factor of linear scaling becomes; "auto" is decided by the longest row."""
    if value == "auto":
        settings: dict[str, Any] = {"model.rope_type": "linear", "model.rope_factor": None}
        why = "Linear scaling; the factor is decided by the longest row, and is at most 6."
        return Outcome("converted", settings, why)
    factor = float(number(value))
    if factor == 1:
        return Outcome("no-effect", why="A factor of 1 scales nothing.")
    settings = {"model.rope_type": "linear", "model.rope_factor": factor}
    return Outcome("converted", settings, "Linear scaling by this factor.")


def trained_dtype(name: str) -> dict[str, Any]:
    """Return the settings of weights that are all trained in a number format by torch's name."""
    return {"model.dtype": name} if name in ("float32", "bfloat16") else {}


def _group(value: Any) -> Mapping[str, Any] | None:
    """Return a scaling with its factor, also one written as JSON; None for a type alone."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            found = json.loads(value)
        except ValueError:
            return {"": value}
        return found if isinstance(found, dict) else None
    return None


def _by_type(value: Any, target: Any) -> Outcome:
    if value in (None, "none"):
        return Outcome("no-effect", why="This value asks for nothing.")
    if value not in ROPE_TYPES:
        return Outcome("refused", why=f"The scalings here are {', '.join(ROPE_TYPES)}.")
    settings: dict[str, Any] = {"model.rope_type": value}
    if target is None:
        return Outcome("renamed", settings)
    settings["model.max_model_len"] = target
    return Outcome("converted", settings, f"The factor follows from {target:,} tokens.")


def _by_group(scaling: Mapping[str, Any]) -> Outcome:
    unknown = [name for name in scaling if name not in _ROPE_KEYS]
    if unknown:
        return Outcome("refused", why=f"A scaling is a type and a factor here, without {unknown}.")
    kind = scaling.get("rope_type", scaling.get("type"))
    factor = number(scaling.get("factor"))
    if kind not in ROPE_TYPES:
        return Outcome("refused", why=f"The scalings here are {', '.join(ROPE_TYPES)}.")
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or factor < 1:
        return Outcome("refused", why="The factor is a number of at least 1 here.")
    settings = {"model.rope_type": kind, "model.rope_factor": float(factor)}
    return Outcome("converted", settings, "Its type and its factor.")
