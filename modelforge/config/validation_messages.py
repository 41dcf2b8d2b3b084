"""What is wrong with one value, in words: what it is, what is allowed, what to do."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from modelforge.config.fields import FieldSpec, specs_by_name
from modelforge.errors import Problem

# JSON numbers beyond this lose digits in a browser.
LARGEST_WHOLE = 2**53
_LONGEST_SHOWN = 60
_MOST_NAMED = 3


def shown(value: object) -> str:
    """Return `value` as a person would write it, never longer than a line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 100:
        return f"A number of about {math.floor(value.bit_length() * math.log10(2)) + 1} digits"
    if isinstance(value, Mapping):
        return "A group of settings"
    if isinstance(value, (list, tuple, set)):
        return f"A list of {len(value)}"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def listed(words: Iterable[str], last: str = "or") -> str:
    """Return the words as a list in a sentence."""
    *first, end = list(words)
    return f"{', '.join(first)} {last} {end}" if first else end


def allowed(spec: FieldSpec, highest: float | None = None) -> str:
    """Return what the setting takes, such as "a whole number from 1 to 256".

    `highest` is named where the setting has no maximum of its own.
    """
    if spec.kind == "choice":
        text = listed(spec.choices)
    elif spec.kind == "bool":
        text = "true or false"
    elif spec.kind == "list":
        text = "a list of sources"
    elif spec.kind == "map":
        text = "names by name"
    elif spec.kind == "text":
        text = f"a text of at most {spec.maximum} characters" if spec.maximum else "a text"
    else:
        text = ("a whole number" if spec.kind == "int" else "a number") + _range(
            spec, highest if spec.maximum is None else spec.maximum
        )
    return f"{text}, or nothing" if spec.nullable else text


def no_such_setting(name: str, layer: str) -> Problem:
    """Return the problem of a key that is no setting, with the nearest name there is."""
    near = nearest(name)
    remedy = f"Did you mean '{near}'?" if near else "Leave it out."
    what = f"There is no setting of this name (given by: {layer})."
    return Problem(_short(name), what, remedy)


def nearest(name: str) -> str | None:
    """Return the setting whose name is most like `name`, groups left out or not."""
    names = {part: full for full in specs_by_name() for part in (full, full.rpartition(".")[2])}
    lowered = name.strip().lower().replace("-", "_")[:100]
    for wanted in (lowered, lowered.rpartition(".")[2]):
        if wanted in names:
            return names[wanted]
        close = difflib.get_close_matches(wanted, names, n=1, cutoff=0.7)
        if close:
            return names[close[0]]
    holding = [full for full in specs_by_name() if len(lowered) > 2 and lowered in full]
    # A setting of the contract is meant sooner than one of a group.
    flat = [full for full in holding if "." not in full]
    few = flat or holding
    return few[0] if len(few) == 1 else None


def refused(spec: FieldSpec, value: object, kind: str) -> Problem:
    """Return the problem of a `value` that pydantic refused with an error of this `kind`."""
    what = _WHAT.get(kind, lambda value: f"{shown(value)} cannot be used.")(value)
    may = allowed(spec, LARGEST_WHOLE if kind == "too_large" else None)
    remedy = f"Choose {may}." if spec.kind == "choice" else f"Give {may}."
    if spec.kind == "text" and spec.required and not spec.maximum:
        remedy = f"Give {spec.help[0].lower()}{spec.help[1:]}"
    if kind == "literal_error" and isinstance(value, str):
        close = difflib.get_close_matches(value.strip().lower(), spec.choices, n=1)
        remedy += f" Did you mean '{close[0]}'?" if close else ""
    if kind == "string_type" and value is not None:
        remedy += " In a recipe, put it in quotes."
    return Problem(spec.name, what, remedy)


def not_a_group(name: str, value: object) -> Problem:
    """Return the problem of a plain value where a group of settings belongs."""
    inside = [spec for spec in specs_by_name() if spec.startswith(f"{name}.")]
    named = inside if len(inside) <= _MOST_NAMED else [*inside[:_MOST_NAMED], "so on"]
    remedy = f"Give its settings by name: {listed(named, 'and')}."
    return Problem(name, f"{shown(value)} is no group of settings.", remedy)


def _range(spec: FieldSpec, high: float | None) -> str:
    low = spec.minimum
    if low is None:
        return "" if high is None else f" of at most {high}"
    if spec.exclusive_minimum:
        return f" above {low}" + ("" if high is None else f" and at most {high}")
    return f" of {low} or more" if high is None else f" from {low} to {high}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_SHOWN else name[: _LONGEST_SHOWN - 1] + "…"


def _no_number(value: object) -> str:
    return "No value is given." if value in (None, "") else f"{shown(value)} is no number."


_WHAT: dict[str, Callable[[Any], str]] = {
    "missing": lambda _value: "No value is given.",
    "greater_than": lambda value: f"{shown(value)} is too small.",
    "greater_than_equal": lambda value: f"{shown(value)} is too small.",
    "less_than": lambda value: f"{shown(value)} is too large.",
    "less_than_equal": lambda value: f"{shown(value)} is too large.",
    "int_parsing_size": lambda value: f"{shown(value)} is too large.",
    "too_large": lambda value: f"{shown(value)} is too large.",
    "int_from_float": lambda value: f"{shown(value)} is no whole number.",
    "finite_number": lambda value: f"{shown(value)} is no finite number.",
    "int_parsing": _no_number,
    "int_type": _no_number,
    "float_parsing": _no_number,
    "float_type": _no_number,
    "bool_parsing": lambda value: f"{shown(value)} is neither true nor false.",
    "bool_type": lambda value: f"{shown(value)} is neither true nor false.",
    "literal_error": lambda value: f"{shown(value)} is not among the choices.",
    "string_type": lambda value: (
        "No value is given." if value is None else f"{shown(value)} is no text."
    ),
    "string_too_short": lambda value: f"{shown(value)} is an empty text.",
    "string_too_long": lambda value: f"The text is too long: {len(value)} characters.",
    "string_unicode": lambda _value: "The text holds characters that cannot be stored.",
    "control_character": lambda value: f"{shown(value)} holds a control character.",
}
