"""The page docs/coverage.md: every option of the documented systems, and what it is here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelforge.config.fields import field_specs
from modelforge.config.importers import nanochat, safe_synthesizer, stack_wise, surogate
from modelforge.config.importers.foreign_file import ForeignFile
from modelforge.config.importers.options import ABSENT
from modelforge.config.importers.report import ReportLine
from modelforge.config.importers.surogate_data import SOURCE_FIELDS
from modelforge.config.importers.system import System
from modelforge.config.schema.contract import Contract
from modelforge.errors import ConfigError

# Values that are tried where an option names none.
TRIED: tuple[Any, ...] = (
    *(True, False, 1, 2, 0.5, "text", "auto", "/text.log"),
    *(["text"], [0.5], [{"path": "text"}], {0: {}}, {"type": "dpo"}),
)
# Options that are given beside the one that is tried, because it has no effect without them.
BESIDE: dict[str, dict[str, Any]] = {
    "surogate": {"persistent_quants": True, "shard_weights": True},
    "safe-synthesizer": {"quantize_model": True},
    "stack-wise": {"data": {"dataset_path": "text"}},
}
ASKS_NOTHING = ("This value asks for nothing.", "It is empty, as if it were left out.")
DOCUMENTED = (
    surogate.SYSTEM,
    nanochat.SYSTEM,
    safe_synthesizer.SYSTEM,
    stack_wise.SYSTEM,
)
_INTRODUCTION = """# Coverage

Every option of the five documents that ModelForge follows, and what it is here. The table is
written by `scripts/docs.py` from the tables of the [importers](importing.md).

- **setting**: the option is a setting, under the name that is given, for some or all of its values.
- **no effect**: the option is accepted and changes nothing here; the reason is given.
- **refused**: it cannot be had here, or comes with a feature that is not there yet.
"""


def coverage_markdown() -> str:
    """Return docs/coverage.md."""
    parts = [_INTRODUCTION, _contract()]
    for system in DOCUMENTED:
        rows = [_row(name, *_state(name, system)) for name in system.options]
        if system is surogate.SYSTEM:
            fields = ("path", "type", "system_prompt_type", *SOURCE_FIELDS)
            rows += [
                _row(f"datasets.{name}", "setting", f"`data.sources.{name}`") for name in fields
            ]
        parts.append(_table(system.title, rows))
    return "\n".join(parts)


def _contract() -> str:
    specs = [spec for spec in field_specs() if spec.name in Contract.model_fields]
    return _table("ModelForge", [_row(spec.name, "setting", f"`{spec.name}`") for spec in specs])


def _table(title: str, rows: list[str]) -> str:
    return "\n".join(
        [f"## {title}\n", "| option | state | setting, or why |", "| --- | --- | --- |", *rows, ""]
    )


def _row(name: str, state: str, what: str) -> str:
    return f"| `{name}` | {state} | {what} |"


def _state(name: str, system: System) -> tuple[str, str]:
    """Return the state of an option and its settings, or the reason why it has none."""
    lines = list(_lines(name, system))
    settings = [
        line.setting
        for line in lines
        if line.setting and line.result not in ("refused", "no-effect")
    ]
    if settings:
        names = dict.fromkeys(part for each in settings for part in each.split(", "))
        return "setting", ", ".join(f"`{part}`" for part in names)
    refused = [line.why for line in lines if line.result == "refused"]
    if refused:
        return "refused", refused[0]
    return "no effect", next(line.why for line in lines if line.why not in ASKS_NOTHING)


def _lines(name: str, system: System) -> Iterator[ReportLine]:
    """Yield what becomes of an option with each value that can be read."""
    option = system.options[name]
    own = () if option.default is ABSENT else (option.default,)
    for value in (*own, *option.choices, *TRIED):
        values = _nested(name, value, system)
        for other, beside in BESIDE.get(system.name, {}).items():
            is_group = isinstance(beside, dict) and isinstance(values.get(other), dict)
            values[other] = beside | values[other] if is_group else values.get(other, beside)
        file = ForeignFile("file", values)
        try:
            report = system.read(file).report
        except ConfigError:
            continue
        yield from (line for line in report if line.name == name and not line.is_default)


def _nested(name: str, value: Any, system: System) -> dict[str, Any]:
    group, dot, inner = name.partition(".")
    if not dot:
        return {name: value}
    groups = {each.removeprefix(f"{group}.") for each in system.groups if each.startswith(group)}
    deeper, dot, last = inner.partition(".")
    return {group: {deeper: {last: value}} if dot and deeper in groups else {inner: value}}
