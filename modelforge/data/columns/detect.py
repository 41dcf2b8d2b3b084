"""Which columns hold the question and which the answer, with the reason in words."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import orjson

from modelforge.config.rules.data import declared_type
from modelforge.config.schema.data import Source
from modelforge.data.columns.mapping import ColumnMapping, RowKind
from modelforge.data.columns.names import (
    COMPLETION_COLUMNS,
    KIND_TEXTS,
    MESSAGES_COLUMNS,
    PROMPT_COLUMNS,
    SUPPORTED_COLUMNS,
    Rows,
    best_pattern,
    by_normalized_name,
    columns_of,
    detect_properties,
)
from modelforge.errors import DataError, Problem

__all__ = ["ColumnMapping", "RowKind", "detect_mapping"]

# What a source's type may turn out to be.
_KINDS: dict[str, tuple[RowKind, ...]] = {
    "text": ("text",),
    "instruction": ("instruction", "pair", "summary"),
    "conversation": ("messages",),
    "preference": ("preference", "preference-label"),
}
# For each type: the parts, the setting that names each, and what it is called if none does.
_Named = tuple[str, str, tuple[str, ...]]
_PARTS: dict[str, tuple[_Named, ...]] = {
    "text": (("text", "text_field", ("text",)),),
    "instruction": (
        ("instruction", "instruction_field", PROMPT_COLUMNS),
        ("answer", "output_field", COMPLETION_COLUMNS),
    ),
    "conversation": (("messages", "messages_field", MESSAGES_COLUMNS),),
    "preference": (
        ("chosen", "chosen_field", ("chosen",)),
        ("rejected", "rejected_field", ("rejected",)),
    ),
}
_BESIDE: dict[str, tuple[tuple[str, str], ...]] = {
    "text": (),
    "instruction": (("input", "input_field"),),
    "conversation": (),
    "preference": (("prompt", "prompt_field"),),
}
_SAID_KIND: dict[str, RowKind] = {
    "text": "text",
    "instruction": "instruction",
    "conversation": "messages",
    "preference": "preference",
}


def detect_mapping(
    rows: Rows, name: str = "dataset", source: Source | None = None
) -> ColumnMapping:
    """Return how these rows are read; what the source says wins over what the columns are called.

    Raises DataError when no spelling fits any row, or a column that was said is not there.
    """
    source = source or Source(path=name)
    columns = columns_of(rows)
    said = _said_columns(source)
    for setting, column in said.items():
        if column not in columns:
            raise _no_column(name, setting, column, columns)
    kind = declared_type(source)
    parts = [setting for _, setting, _ in _PARTS.get(kind, ())]
    parts += [setting for _, setting in _BESIDE.get(kind, ())]
    if any(setting in said for setting in parts):
        found, fields = _SAID_KIND[kind], _fields_said(source, kind, columns, name)
    else:
        fit = best_pattern(rows, _KINDS.get(kind))
        if fit is None:
            raise _unknown(rows, name, kind)
        found, fields = fit[0].kind, fit[1]
    fields = _with_system(fields, source)
    properties = _properties(rows, found, fields, source)
    unused = [column for column in columns if column not in fields.values()]
    return ColumnMapping(
        kind=found,
        fields=fields,
        reason=_reason(found, fields, unused, properties, source),
        unused=unused[:20],
        properties=properties,
        system_prompt=source.system_prompt,
        prompt_format=source.prompt_format,
        prompt_format_no_input=source.prompt_format_no_input,
    )


def _said_columns(source: Source) -> dict[str, str]:
    named = {setting: value for setting, value in source if setting.endswith("_field")}
    return {setting: str(value) for setting, value in named.items() if value is not None}


def _fields_said(source: Source, kind: str, columns: Sequence[str], name: str) -> dict[str, str]:
    """Return the columns that were said, and for a part that was not the one called like it."""
    actual = by_normalized_name(columns)
    taken = set(_said_columns(source).values())
    fields: dict[str, str] = {}
    for part, setting in _BESIDE[kind]:
        if column := getattr(source, setting):
            fields[part] = column
    for part, setting, names in _PARTS[kind]:
        column = getattr(source, setting)
        if column is None:
            there = (actual[each] for each in names if each in actual)
            column = next((each for each in there if each not in taken), None)
        if column is None and part == "instruction" and "input" in fields:
            column = fields.pop("input")
        if column is None:
            raise _no_part(name, setting, columns)
        fields[part] = column
    return fields


def _with_system(fields: dict[str, str], source: Source) -> dict[str, str]:
    kept = dict(fields)
    column = source.system_prompt_field or source.system_field
    if column:
        kept["system"] = column
    elif source.system_prompt_type == "fixed":
        kept.pop("system", None)
    if source.tools_field:
        kept["tools"] = source.tools_field
    return kept


def _properties(
    rows: Rows, kind: RowKind, fields: dict[str, str], source: Source
) -> dict[str, str]:
    if source.message_property_mappings:
        return dict(source.message_property_mappings)
    if kind not in ("messages", "preference", "pair", "preference-label"):
        return {}
    columns = [fields[part] for part in ("messages", "chosen", "prompt") if part in fields]
    return detect_properties([_opened(row.get(column)) for column in columns for row in rows])


def _opened(value: Any) -> Any:
    """Return a conversation that stands as JSON text in a cell as what it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _reason(
    kind: RowKind,
    fields: dict[str, str],
    unused: Sequence[str],
    properties: dict[str, str],
    source: Source,
) -> str:
    named = [column[:40] for column in fields.values()]
    listed = named[0] if len(named) == 1 else ", ".join(named[:-1]) + f" and {named[-1]}"
    if set(_said_columns(source).values()) & set(fields.values()):
        text = f"Read {KIND_TEXTS[kind]} from {listed}, because you said so."
    elif len(named) == 1:
        text = f"Read {KIND_TEXTS[kind]}, because there is a column {listed}."
    else:
        text = f"Read {KIND_TEXTS[kind]}, because there are columns {listed}."
    if kind == "preference" and "prompt" not in fields:
        text += " What both answers begin with is the question."
    if properties:
        called = " and ".join(f"{name[:40]} for {part}" for part, name in properties.items())
        by_whom = ", as you said" if source.message_property_mappings else ""
        text += f" Turns say {called}{by_whom}."
    return f"{text} Not used: {_some(unused)}." if unused else text


def _some(columns: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(column[:40] for column in columns[:most])
    return shown if len(columns) <= most else f"{shown} and {len(columns) - most} more"


def _no_column(name: str, setting: str, column: str, columns: Sequence[str]) -> DataError:
    near = difflib.get_close_matches(column, columns, n=1)
    remedy = f"Did you mean {near[0][:40]}?" if near else f"There are {_some(columns)}."
    return DataError(Problem(name, f"has no column {column[:40]}, named by {setting}.", remedy))


def _no_part(name: str, setting: str, columns: Sequence[str]) -> DataError:
    what = f"{setting} is not said, and no column of {_some(columns)} is called like one."
    return DataError(Problem(name, what, f"Name the column as {setting}."))


def _unknown(rows: Rows, name: str, kind: str) -> DataError:
    columns = columns_of(rows)
    lacking = "say neither question nor answer"
    if kind != "auto":
        lacking = f"are not called as in {kind} rows"
    if not columns:
        what = "has rows without any column."
    elif len(columns) == 1:
        lacking = lacking.replace("say ", "says ").replace("are ", "is ")
        what = f"has only the column {columns[0][:40]}, which {lacking}."
    else:
        what = f"has the columns {_some(columns)}, which {lacking}."
    remedy = f"Name the columns {SUPPORTED_COLUMNS}."
    if kind != "auto":
        settings = " and ".join(setting for _, setting, _ in _PARTS[kind])
        remedy = f"Say which column is which with {settings}, or choose the type auto."
    return DataError(Problem(name, what, remedy))
