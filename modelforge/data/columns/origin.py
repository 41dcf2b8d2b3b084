"""Name the tool whose files have the shape of these rows, for the reason of a mapping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from modelforge.data.canonical.cells import parse_cell
from modelforge.data.columns.mapping import RowKind
from modelforge.data.columns.names import (
    CONTENTS_COLUMN,
    LABEL_COLUMNS,
    MESSAGES_COLUMNS,
    Rows,
)
from modelforge.data.formats.joining import NO_OPTIONS, JoinOptions
from modelforge.data.formats.tree_nodes import key_of

_MAX_ROWS = 20


class _Shape(NamedTuple):
    """What is known of the rows.

    Args:
        names: the columns of `fields` in lower case.
        is_joined: whether earlier rows have become the history.
    """

    kind: RowKind
    fields: Mapping[str, str]
    rows: Rows
    names: dict[str, str]
    is_joined: bool


def origin_of(
    kind: RowKind, fields: Mapping[str, str], rows: Rows, join: JoinOptions = NO_OPTIONS
) -> str:
    """Return whose files have this shape, such as "Gemini's contents and parts"; "" for others."""
    names = {part: column.strip().lower() for part, column in fields.items()}
    shape = _Shape(kind, fields, rows, names, bool(joining_columns(fields, rows, join)))
    return next((origin for origin, fits in _ORIGINS.items() if fits(shape)), "")


def joining_columns(fields: Mapping[str, str], rows: Rows, join: JoinOptions) -> list[str]:
    """Return the columns of id and parent by which earlier rows have become the history."""
    history = fields.get("history")
    if history is None or not any(_are_rows(row.get(history), join) for row in rows):
        return []
    keys = (key_of(row, names) for row in rows for names in (join.id_keys, join.parent_keys))
    return list(dict.fromkeys(key for key in keys if key))


def _are_rows(value: Any, join: JoinOptions) -> bool:
    """Return whether a history holds whole rows, and not messages or pairs of texts."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and key_of(first, join.id_keys) is not None


def _messages(shape: _Shape) -> Iterator[Mapping[str, Any]]:
    """Yield the first messages of conversations; nothing for other kinds."""
    column = shape.fields["messages"] if shape.kind == "messages" else ""
    for row in shape.rows[:_MAX_ROWS]:
        value = parse_cell(row.get(column))
        if isinstance(value, list):
            yield from (item for item in value if isinstance(item, Mapping))


def _is_bedrock(shape: _Shape) -> bool:
    """Return whether contents are lists of objects with a text and without a type."""
    contents = [message.get("content") for message in _messages(shape)]
    lists = [content for content in contents if isinstance(content, list) and content]
    parts = [part for content in lists for part in content if isinstance(part, Mapping)]
    return bool(lists) and len(lists) == len(contents) and not any("type" in each for each in parts)


def _has_weights(shape: _Shape) -> bool:
    return any("weight" in message and "role" in message for message in _messages(shape))


def _is_swift(shape: _Shape) -> bool:
    is_rejected = shape.names.get("rejected") == "rejected_response"
    return is_rejected and shape.names.get("chosen") != "chosen_response"  # as Axolotl names both


# The shapes by whose they are, specific ones first.
_ORIGINS: dict[str, Callable[[_Shape], bool]] = {
    "Gemini's contents and parts": lambda shape: shape.names.get("messages") == CONTENTS_COLUMN,
    "Axolotl's segments without a template": lambda shape: shape.kind == "segments",
    "H2O's rows with parent ids": lambda shape: shape.is_joined,
    "OpenAI's preference files": lambda shape: shape.names.get("chosen") == "preferred_output",
    "ms-swift's rejected_response": _is_swift,
    "LLaMA-Factory's ShareGPT preference": lambda shape: (
        shape.kind == "preference" and shape.names.get("prompt") == MESSAGES_COLUMNS[1]
    ),
    "LLaMA-Factory's KTO tags": lambda shape: shape.names.get("label") == LABEL_COLUMNS[1],
    "Bedrock's content lists": _is_bedrock,
    "OpenAI's fine-tuning files with weights": _has_weights,
}
