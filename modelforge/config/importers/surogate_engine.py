"""Options of Surogate's own kernels and buffers, which are kept for its engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modelforge.config.engines import ENGINE_OPTIONS
from modelforge.config.importers.options import Option, Read, Values
from modelforge.config.importers.report import Outcome

SETTING = "hardware.engine_options"


def with_engine_options(options: Mapping[str, Option]) -> dict[str, Option]:
    """Return the options; those without effect here are kept for the engine that has them."""
    return {
        name: replace(option, read=_kept(name, option.read)) if name in ENGINE_OPTIONS else option
        for name, option in options.items()
    }


def engine_settings(values: Values, options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the setting with all of them, in lines; empty if a file asks for none."""
    lines = [
        line
        for name in ENGINE_OPTIONS
        if (value := values.get(name)) is not None
        and (line := options[name].read(value, values).settings.get(SETTING))
    ]
    return {SETTING: "\n".join(lines)} if lines else {}


def _kept(name: str, read: Read) -> Read:
    def kept(value: Any, values: Values) -> Outcome:
        outcome = read(value, values)
        if outcome.result not in ("no-effect", "refused") or not _asks(name, value):
            return outcome
        why = f"{outcome.why} It is kept for the engine surogate."
        return Outcome("converted", {SETTING: _line(name, value)}, why)

    return kept


def _asks(name: str, value: Any) -> bool:
    """Return whether a value differs from the default of Surogate."""
    default = ENGINE_OPTIONS[name][0]
    return value is not None and (type(value), value) != (type(default), default)


def _line(name: str, value: Any) -> str:
    return f"{name}: {str(value).lower() if isinstance(value, bool) else value}"
