"""Detect which columns hold which part of a row, and explain the result."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from modelforge.config.fields import source_specs
from modelforge.config.rules.data import declared_type
from modelforge.config.schema.data import Source
from modelforge.data.canonical.cells import conversation_in
from modelforge.data.columns.joined import join_options
from modelforge.data.columns.mapping import ColumnMapping, RowKind
from modelforge.data.columns.names import (
    COMPLETION_COLUMNS,
    HISTORY_COLUMNS,
    KIND_TEXTS,
    MESSAGES_COLUMNS,
    PROMPT_COLUMNS,
    SUPPORTED_COLUMNS,
    USUAL_COLUMNS,
    Rows,
    best_pattern,
    by_normalized_name,
    columns_of,
    detect_properties,
    is_message_tree,
)
from modelforge.data.columns.origin import joining_columns, origin_of
from modelforge.errors import DataError, Problem

MESSAGE_TREE = (
    "holds one message per row, joined by parent_id (a message tree), without role and text.",
    "Name the columns message_id, parent_id, role and text.",
)
# The number of rows from which columns are detected.
SAMPLE_ROWS = 100
_COLUMNS_OF_TREES = ({"messages"}, {"prompt", "chosen", "rejected"})
_MAX_UNUSED = 20
_MAX_NAME_CHARS = 40


class _Part(NamedTuple):
    """A part of a row, the setting that names its column, and the usual column names."""

    name: str
    setting: str
    columns: tuple[str, ...]


class _SourceType(NamedTuple):
    """A `type` of a source: the kinds it can be, and its parts when columns are named.

    `usual` are the parts without a setting of their own, which have columns with usual names.
    """

    kinds: tuple[RowKind, ...]
    parts: tuple[_Part, ...]
    optional: tuple[tuple[str, str], ...] = ()
    usual: tuple[str, ...] = ()


_TYPES: dict[str, _SourceType] = {
    "text": _SourceType(("text",), (_Part("text", "text_field", ("text",)),)),
    "instruction": _SourceType(
        ("instruction", "pair", "summary"),
        (
            _Part("instruction", "instruction_field", PROMPT_COLUMNS),
            _Part("answer", "output_field", COMPLETION_COLUMNS),
        ),
        (("input", "input_field"),),
        ("history", "system", "tools"),
    ),
    "conversation": _SourceType(
        ("messages",),
        (_Part("messages", "messages_field", MESSAGES_COLUMNS),),
        usual=("system", "tools"),
    ),
    "preference": _SourceType(
        ("preference", "preference-label"),
        (
            _Part("chosen", "chosen_field", ("chosen",)),
            _Part("rejected", "rejected_field", ("rejected",)),
        ),
        (("prompt", "prompt_field"),),
        ("history", "system", "tools"),
    ),
}


def detect_mapping(
    rows: Rows, name: str = "dataset", source: Source | None = None
) -> ColumnMapping:
    """Return how these rows are read; settings of the source take precedence over column names.

    Raises DataError if no pattern fits any row, or a column named by the source is missing.
    """
    source = source or Source(path=name)
    all_columns = columns_of(rows)
    rows = _without(rows, source.unused_columns)
    columns = columns_of(rows)
    if is_message_tree(columns) and HISTORY_COLUMNS[0] not in columns:
        raise DataError(Problem(name, *MESSAGE_TREE))
    _require_columns(name, source, all_columns)
    kind, fields = _kind_and_fields(rows, name, source)
    properties = _properties(rows, kind, fields, source)
    join = join_options(source)
    used = {*fields.values(), *joining_columns(fields, rows, join)}
    rest = [column for column in columns if column not in used]
    unused = [*source.unused_columns, *rest]
    return ColumnMapping(
        kind=kind,
        fields=fields,
        reason=_reason(kind, fields, unused, properties, source)
        + _origin(origin_of(kind, fields, rows, join)),
        unused=unused[:_MAX_UNUSED],
        unused_as_set=source.unused_columns,
        properties=properties,
        system_prompt=source.system_prompt,
        prompt_format=source.prompt_format,
        prompt_format_no_input=source.prompt_format_no_input,
        join=join.as_dict(),
    )


def _kind_and_fields(rows: Rows, name: str, source: Source) -> tuple[RowKind, dict[str, str]]:
    """Return the kind of the rows and the column of each part; raises DataError if none fits."""
    source_type = declared_type(source)
    known = _TYPES.get(source_type)
    if known is not None and _names_a_part(known, _named_columns(source)):
        fields = _named_fields(source, known, columns_of(rows), name)
        return known.kinds[0], _with_system_and_tools(fields, source)
    best = best_pattern(rows, known.kinds if known else None)
    if best is None:
        raise _unknown_columns(rows, name, source_type)
    return best[0].kind, _with_system_and_tools(best[1], source)


def _origin(origin: str) -> str:
    return f" This is the shape of {origin}." if origin else ""


def _require_columns(name: str, source: Source, columns: Sequence[str]) -> None:
    """Raise DataError for a column that the source names and the rows do not have."""
    unused = (("unused_columns", column) for column in source.unused_columns)
    is_joined = set(columns) in _COLUMNS_OF_TREES  # which no longer have an id
    for setting, column in (*_named_columns(source).items(), *unused):
        if column not in columns and not (is_joined and setting in ("id_field", "parent_field")):
            raise _missing_column(name, setting, column, columns)


def _without(rows: Rows, columns: Collection[str]) -> Rows:
    """Return the rows without some of their columns."""
    if not columns:
        return rows
    return [{name: row[name] for name in row if str(name) not in columns} for row in rows]


def _named_columns(source: Source) -> dict[str, str]:
    values = {setting: value for setting, value in source if setting.endswith("_field")}
    return {setting: str(value) for setting, value in values.items() if value is not None}


def _names_a_part(known: _SourceType, named: dict[str, str]) -> bool:
    settings = [part.setting for part in known.parts] + [setting for _, setting in known.optional]
    return any(setting in named for setting in settings)


def _named_fields(
    source: Source, known: _SourceType, columns: Sequence[str], name: str
) -> dict[str, str]:
    """Return the columns that the source names, and those with usual names for other parts."""
    actual = by_normalized_name(columns)
    taken = set(_named_columns(source).values())
    fields: dict[str, str] = {}
    for part_name, setting in known.optional:
        column = getattr(source, setting)
        if column:
            fields[part_name] = column
    for part in known.parts:
        column = getattr(source, part.setting)
        if column is None:
            column = _usual_column(part.columns, actual, taken)
        if column is None and part.name == "instruction" and "input" in fields:
            column = fields.pop("input")
        if column is None:
            raise _missing_part(name, part.setting, columns)
        fields[part.name] = column
    taken.update(fields.values())
    usual = {part: _usual_column(USUAL_COLUMNS[part], actual, taken) for part in known.usual}
    return fields | {part: column for part, column in usual.items() if column is not None}


def _usual_column(
    names: Sequence[str], actual: Mapping[str, str], taken: Collection[str]
) -> str | None:
    """Return the first column with one of these names that is not used for another part."""
    columns = (actual[name] for name in names if name in actual)
    return next((column for column in columns if column not in taken), None)


def _with_system_and_tools(fields: dict[str, str], source: Source) -> dict[str, str]:
    fields = dict(fields)
    column = source.system_prompt_field or source.system_field
    if column:
        fields["system"] = column
    elif source.system_prompt_type == "fixed":
        fields.pop("system", None)
    if source.tools_field:
        fields["tools"] = source.tools_field
    return fields


def _properties(
    rows: Rows, kind: RowKind, fields: dict[str, str], source: Source
) -> dict[str, str]:
    if source.message_property_mappings:
        return dict(source.message_property_mappings)
    if kind not in ("messages", "preference", "pair", "instruction", "preference-label"):
        return {}
    parts = ("messages", "chosen", "prompt", "instruction", "completion", "answer")
    columns = [fields[part] for part in parts if part in fields]
    return detect_properties(
        [conversation_in(row.get(column)) for column in columns for row in rows]
    )


def _reason(
    kind: RowKind,
    fields: dict[str, str],
    unused: Sequence[str],
    properties: dict[str, str],
    source: Source,
) -> str:
    names = [column[:_MAX_NAME_CHARS] for column in fields.values()]
    listed = names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"
    is_named = bool(set(_named_columns(source).values()) & set(fields.values()))
    noun = "column" if len(names) == 1 else "columns"
    by_whom = ", as set" if is_named else ""
    text = f"Read as {KIND_TEXTS[kind]} from the {noun} {listed}{by_whom}."
    if kind == "preference" and "prompt" not in fields:
        text += " The messages that both completions begin with are the prompt."
    if properties:
        keys = " and ".join(
            f"{key[:_MAX_NAME_CHARS]} for {part}" for part, key in properties.items()
        )
        by_whom = ", as set" if source.message_property_mappings else ""
        text += f" Messages use {keys}{by_whom}."
    return f"{text} Not used: {_shorten(unused)}." if unused else text


def _shorten(columns: Sequence[str], limit: int = 6) -> str:
    shown = ", ".join(column[:_MAX_NAME_CHARS] for column in columns[:limit])
    return shown if len(columns) <= limit else f"{shown} and {len(columns) - limit} more"


def _missing_column(name: str, setting: str, column: str, columns: Sequence[str]) -> DataError:
    near = difflib.get_close_matches(column, columns, n=1)
    if near:
        remedy = f"Did you mean {near[0][:_MAX_NAME_CHARS]}?"
    else:
        remedy = f"Its columns are {_shorten(columns)}."
    what = f"has no column {column[:_MAX_NAME_CHARS]}, which is set as {setting}."
    return DataError(Problem(name, what, remedy))


def _missing_part(name: str, setting: str, columns: Sequence[str]) -> DataError:
    column = source_specs()[setting].label
    what = f"has no {column.lower()} with a usual name; its columns are {_shorten(columns)}."
    return DataError(Problem(name, what, f"Choose the {column.lower()} ({setting})."))


def _unknown_columns(rows: Rows, name: str, source_type: str) -> DataError:
    columns = columns_of(rows)
    if not columns:
        what = "has rows without columns."
    else:
        rows_of_type = "any kind of rows" if source_type == "auto" else f"{source_type} rows"
        noun = "only the column" if len(columns) == 1 else "the columns"
        verb = "does" if len(columns) == 1 else "do"
        what = f"has {noun} {_shorten(columns)}, which {verb} not match {rows_of_type}."
    if source_type == "auto":
        remedy = f"Name the columns {SUPPORTED_COLUMNS}."
    else:
        parts = [part.setting for part in _TYPES[source_type].parts]
        names = [f"{source_specs()[setting].label.lower()} ({setting})" for setting in parts]
        remedy = f"Choose the {' and the '.join(names)}, or let the row type be detected (auto)."
    return DataError(Problem(name, what, remedy))
