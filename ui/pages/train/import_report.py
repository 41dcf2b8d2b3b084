"""The report of an import: what each option becomes, and what changes in the form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import escape

from modelforge.config.fields import FieldSpec, source_specs, specs_by_name
from modelforge.config.importers.report import Imported, ReportLine, Result
from modelforge.config.resolve import flatten
from modelforge.preflight.report import Report
from modelforge.services.presets.take_over import SettingChange, SettingChanges
from ui.html import format as fmt
from ui.html.components import chip
from ui.html.markup import EMPTY, Markup
from ui.html.templates import render
from ui.pages.train.plan_panel import time_text

# What needs a look comes first; options that are taken fold into one line.
RESULTS: dict[Result, str] = {
    "refused": "Refused",
    "converted": "Converted",
    "no-effect": "No effect here",
    "renamed": "Renamed",
    "taken": "Taken",
}
# The order of the filters.
FILTERS: tuple[Result, ...] = ("taken", "renamed", "converted", "no-effect", "refused")
SOURCE = ("data.sources.", "data.validation_sources.")
MAX_CHARS = 90
NO_VALUE = "none"
_BREAKS = re.compile(r"([_.\-\]])(?=.)")


@dataclass(frozen=True)
class _Row:
    """One option: its line, name and value in the file, and what it becomes here."""

    line: str
    name: Markup
    value: str
    result: Result
    word: str
    here: list[tuple[str, str]]
    setting: str
    why: str


def options(imported: Imported) -> Markup:
    """Return the table of all options of the file, with filters."""
    lines = [line for line in imported.report if not line.is_default]
    order = list(RESULTS)
    settings = flatten(imported.recipe)
    rows = [
        _row(line, settings)
        for line in sorted(lines, key=lambda line: (order.index(line.result), line.line or 0))
    ]
    filters = [(name, RESULTS[name], sum(row.result == name for row in rows)) for name in FILTERS]
    return render("import", "options", rows, filters, _defaults(imported), imported.title)


def _defaults(imported: Imported) -> list[tuple[Markup, str]]:
    """Return the defaults of the system that are written out: name and value."""
    return [
        (breakable(line.name), file_value(line.value))
        for line in imported.report
        if line.is_default and line.setting
    ]


def _row(line: ReportLine, settings: Mapping[str, Any]) -> _Row:
    names = [name for name in line.setting.split(", ") if name]
    # The first source is the dataset too.
    names = [name for name in names if name != "dataset" or "data.sources" not in names]
    here = [_here(name, line, settings) for name in names]
    return _Row(
        line=str(line.line or ""),
        name=breakable(line.name),
        value=file_value(line.value),
        result=line.result,
        word=RESULTS[line.result].lower(),
        here=here,
        setting=", ".join(names),
        why=line.why,
    )


def _here(name: str, line: ReportLine, settings: Mapping[str, Any]) -> tuple[str, str]:
    """Return the label of a setting, and its value after the import."""
    group = next((group for group in SOURCE if name.startswith(group)), "")
    specs = source_specs() if group else specs_by_name()
    spec = specs.get(name.removeprefix(group))
    value = settings.get(name, line.value)
    label = "Data" if name in ("dataset", "data.sources") else spec.label if spec else name
    return label, words(spec, value)


def changes(found: SettingChanges, imported: Imported) -> Markup:
    """Return the table of what would change in the form, with the line that each change is from."""
    places = dict(_places(imported))
    named = flatten(imported.recipe)
    rows = [
        (*_change(change), places.get(change.setting) or _without_line(change.setting, named))
        for change in found.changed
    ]
    return render("import", "changes", rows, _summary(found))


def _without_line(setting: str, named: Mapping[str, Any]) -> str:
    return "follows from the file" if setting in named else "not in the file"


def preset_changes(found: SettingChanges, description: str) -> Markup:
    """Return what a preset would change in the form, below what it stands for."""
    rows = [(*_change(change), "") for change in found.changed]
    return render("import", "preset_changes", rows, _summary(found), description)


def _change(change: SettingChange) -> tuple[str, str, str]:
    spec = specs_by_name().get(change.setting)
    return change.label, words(spec, change.now), words(spec, change.then)


def _summary(found: SettingChanges) -> str:
    if not found.changed:
        return "nothing; the form has these settings already"
    others = f"the other {fmt.number(found.same)} stay as they are"
    return f"{fmt.plural(len(found.changed), 'setting')}; {others}"


def _places(imported: Imported) -> Iterator[tuple[str, str]]:
    """Yield each setting with the line that it comes from, or whose default it is."""
    for line in sorted(imported.report, key=lambda line: not line.is_default):
        place = f"line {line.line}" if line.line else line.name
        place = f"default of {imported.title}" if line.is_default else place
        for name in line.setting.split(", "):
            yield name, place
            if name == "data.sources":
                yield "dataset", place


def compared(now: Report | None, then: Report) -> list[tuple[str, str]]:
    """Return memory, time and steps of the form now and with the imported settings."""
    rows = [("Memory", _memory), ("Time", time_text), ("Steps", _steps)]
    return [(name, _arrow(read(now) if now else "", read(then))) for name, read in rows]


def _arrow(now: str, then: str) -> str:
    return f"{now} → {then}" if now and now != then else then


def _memory(report: Report) -> str:
    return fmt.gib(report.memory_total_gib)


def _steps(report: Report) -> str:
    return fmt.number(report.updates)


def refused_chip(imported: Imported) -> Markup:
    """Return how many options are refused; empty if none are."""
    count = imported.count("refused")
    return chip(f"{count} refused", "bad") if count else EMPTY


def words(spec: FieldSpec | None, value: Any) -> str:
    """Return the value of a setting as a person reads it: on, 2,048, 2e-4, none."""
    text = str(value).strip()
    if value is None or text in ("", "[]", "{}"):
        return NO_VALUE
    if isinstance(value, bool) or (spec and spec.kind == "bool" and text in ("true", "false")):
        return "on" if text.lower() == "true" else "off"
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        paths = [str(item.get("path", "")) for item in value if isinstance(item, Mapping)]
        return short(", ".join(paths))
    number = _number(text) if spec is None or spec.kind in ("int", "float") else None
    if number is not None:
        return fmt.number(int(number)) if number.is_integer() else fmt.compact(number)
    return short(", ".join(map(str, value)) if isinstance(value, list) else text)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def file_value(value: Any) -> str:
    """Return a value as its file has it: true, 2e-4, [1, 2]."""
    if isinstance(value, str):
        return short(value)
    if isinstance(value, float):
        return fmt.compact(value)
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return fmt.plural(len(value), "entry", "entries")
    return short(json.dumps(value, ensure_ascii=False, default=str))


def short(text: str) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"


def breakable(name: str) -> Markup:
    """Return a name that a narrow column may break behind its underscores and dots."""
    return Markup(_BREAKS.sub("\\1<wbr>", str(escape(name))))
