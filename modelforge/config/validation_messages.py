"""Messages about invalid values: what is wrong, what is allowed, and how to fix it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping

from modelforge.config.fields import FieldSpec, specs_by_name
from modelforge.config.progressive.checks import dtype_problem
from modelforge.errors import Problem

# JSON numbers beyond this lose digits in a browser.
MAX_INTEGER = 2**53
_MAX_SHOWN = 60
_MAX_NAMED = 3


def shown(value: object) -> str:
    """Return `value` as text of at most one line."""
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
    return _shorten(repr(value) if isinstance(value, str) else str(value))


def join_words(words: Iterable[str], last: str = "or") -> str:
    """Return the words as a list in a sentence."""
    *first, end = list(words)
    return f"{', '.join(first)} {last} {end}" if first else end


def allowed_values(spec: FieldSpec, maximum: float | None = None) -> str:
    """Return the allowed values of a setting, such as "a whole number from 1 to 256".

    `maximum` is named where the setting has none of its own.
    """
    if spec.kind == "choice":
        text = join_words(spec.choices)
    elif spec.kind == "bool":
        text = "true or false"
    elif spec.kind == "list":
        text = "a list of sources"
    elif spec.kind == "names":
        text = f"a list of at most {spec.maximum:,} names"
    elif spec.kind == "map":
        text = "a mapping such as `role: from`"
    elif spec.kind == "text":
        text = f"text of at most {spec.maximum:,} characters" if spec.maximum else "text, not empty"
    else:
        noun = "a whole number" if spec.kind == "int" else "a number"
        text = noun + _range(spec, maximum if spec.maximum is None else spec.maximum)
        text += ", or auto" if spec.auto else ""
    return f"{text}, or leave it empty" if spec.nullable else text


def unknown_setting(name: str, layer: str) -> Problem:
    """Return the problem of an unknown setting, with the most similar name."""
    similar = most_similar(name)
    remedy = f"Did you mean '{similar}'?" if similar else "Remove it."
    return Problem(_shorten(name), f"is not a setting (given by: {layer}).", remedy)


def most_similar(name: str) -> str | None:
    """Return the setting whose name is most similar to `name`, with or without its group."""
    names = {part: full for full in specs_by_name() for part in (full, full.rpartition(".")[2])}
    lowered = name.strip().lower().replace("-", "_")[:100]
    for wanted in (lowered, lowered.rpartition(".")[2]):
        if wanted in names:
            return names[wanted]
        close = difflib.get_close_matches(wanted, names, n=1, cutoff=0.7)
        if close:
            return names[close[0]]
    containing = [full for full in specs_by_name() if len(lowered) > 2 and lowered in full]
    # Settings of the contract are preferred to those of a group.
    candidates = [full for full in containing if "." not in full] or containing
    return candidates[0] if len(candidates) == 1 else None


def invalid_value(spec: FieldSpec, value: object, error: str) -> Problem:
    """Return the problem of a `value` that pydantic refused with an error of this type."""
    is_dtype = spec.name == "progressive.new_layer_dtype" and isinstance(value, str)
    if is_dtype and (problem := dtype_problem(str(value))):
        return problem
    allowed = allowed_values(spec, MAX_INTEGER if error == "too_large" else None)
    remedy = f"Choose {allowed}." if spec.kind == "choice" else f"Enter {allowed}."
    if spec.kind == "text" and spec.required and not spec.maximum:
        remedy = f"Enter {spec.help[0].lower()}{spec.help[1:]}"
    if error in ("literal_error", "string_pattern_mismatch") and isinstance(value, str):
        close = difflib.get_close_matches(value.strip().lower(), spec.choices, n=1)
        remedy += f" Did you mean '{close[0]}'?" if close else ""
    if error == "string_type" and value is not None:
        remedy += " In a recipe, put it in quotes."
    return Problem(spec.name, _describe(value, error), remedy)


def not_a_group(name: str, value: object) -> Problem:
    """Return the problem of a plain value in place of a group of settings."""
    members = [full for full in specs_by_name() if full.startswith(f"{name}.")]
    named = members if len(members) <= _MAX_NAMED else [*members[:_MAX_NAMED], "so on"]
    remedy = f"Enter its settings by name: {join_words(named, 'and')}."
    return Problem(name, f"{shown(value)} is not a group of settings.", remedy)


def _describe(value: object, error: str) -> str:
    if error == "string_too_long":
        return f"The text is too long: {len(str(value))} characters."
    is_number = error.startswith(("int_", "float_"))
    if (value is None and error == "string_type") or (value in (None, "") and is_number):
        error = "missing"
    return _MESSAGES.get(error, "{shown} is not allowed.").format(shown=shown(value))


def _range(spec: FieldSpec, high: float | None) -> str:
    low = spec.minimum
    if low is None:
        return "" if high is None else f" of at most {high}"
    if spec.exclusive_minimum:
        return f" above {low}" + ("" if high is None else f" and at most {high}")
    return f" of {low} or more" if high is None else f" from {low} to {high}"


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


_TOO_SMALL, _TOO_LARGE = "{shown} is too small.", "{shown} is too large."
_NO_NUMBER, _NO_BOOL = "{shown} is not a number.", "{shown} is neither true nor false."
_MESSAGES = {
    "missing": "A value is required.",
    "greater_than": _TOO_SMALL,
    "greater_than_equal": _TOO_SMALL,
    "less_than": _TOO_LARGE,
    "less_than_equal": _TOO_LARGE,
    "int_parsing_size": _TOO_LARGE,
    "too_large": _TOO_LARGE,
    "int_from_float": "{shown} is not a whole number.",
    "finite_number": "{shown} is not a finite number.",
    "int_parsing": _NO_NUMBER,
    "int_type": _NO_NUMBER,
    "float_parsing": _NO_NUMBER,
    "float_type": _NO_NUMBER,
    "bool_parsing": _NO_BOOL,
    "bool_type": _NO_BOOL,
    "literal_error": "{shown} is not one of the choices.",
    "string_pattern_mismatch": "{shown} is not one of the choices.",
    "string_type": "{shown} is not text.",
    "string_too_short": "{shown} is empty.",
    "string_unicode": "The text contains characters that cannot be stored.",
    "control_character": "{shown} contains a control character.",
}
