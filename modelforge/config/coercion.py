"""Text from forms and flags becomes numbers here, and nowhere else."""

from __future__ import annotations

import unicodedata
from typing import Any

from modelforge.config.fields import FieldSpec
from modelforge.config.validation_messages import LARGEST_WHOLE


def tidy(spec: FieldSpec, value: Any) -> tuple[str, Any]:
    """Return what is wrong, if anything, and the value as the schema should see it."""
    if isinstance(value, str):
        return _text(spec, value)
    if spec.kind in ("int", "float"):
        return _number(spec, value)
    return "", value


def _text(spec: FieldSpec, value: str) -> tuple[str, Any]:
    text = value.strip()
    if spec.nullable and text in ("", "null"):
        return "", None
    if spec.kind == "text":
        return "control_character" if _has_control(value, spec.multiline) else "", value
    if spec.kind not in ("int", "float"):
        return "", text
    try:
        number = int(text)
    except ValueError:
        try:
            number_or_fraction = float(text)
        except ValueError:
            return f"{spec.kind}_parsing", value
        return _number(spec, number_or_fraction)
    return _number(spec, number)


def _number(spec: FieldSpec, value: Any) -> tuple[str, Any]:
    if isinstance(value, bool):
        return f"{spec.kind}_type", value
    if not isinstance(value, (int, float)):
        return "", value
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        return "too_large" if value > 0 else "greater_than_equal", value
    if spec.kind == "int" and isinstance(value, float) and value.is_integer():
        return _number(spec, int(value))
    return "", value


def _has_control(text: str, lines: bool) -> bool:
    free = "\n\r\t" if lines else ""
    return any(unicodedata.category(mark) == "Cc" and mark not in free for mark in text)
