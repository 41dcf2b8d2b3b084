"""Convert values from forms, flags and recipes to what the schema expects."""

from __future__ import annotations

import unicodedata
from typing import Any

from modelforge.config.fields import FieldSpec
from modelforge.config.validation_messages import MAX_INTEGER


def coerce(spec: FieldSpec, value: Any) -> tuple[str, Any]:
    """Return the kind of error (empty for none) and the converted value."""
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
    for convert in (int, float):
        try:
            return _number(spec, convert(text))
        except ValueError:
            continue
    return f"{spec.kind}_parsing", value


def _number(spec: FieldSpec, value: Any) -> tuple[str, Any]:
    if isinstance(value, bool):
        return f"{spec.kind}_type", value
    if not isinstance(value, (int, float)):
        return "", value
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "too_large" if value > 0 else "greater_than_equal", value
    if spec.kind == "int" and isinstance(value, float) and value.is_integer():
        return _number(spec, int(value))
    return "", value


def _has_control(text: str, multiline: bool) -> bool:
    allowed = "\n\r\t" if multiline else ""
    return any(unicodedata.category(char) == "Cc" and char not in allowed for char in text)
