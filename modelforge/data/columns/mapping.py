"""How a row is read: its kind, and the column of each part."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

RowKind = Literal[
    "text",
    "pair",
    "instruction",
    "messages",
    "summary",
    "preference",
    "preference-label",
    "span",
    "segments",
]


@dataclass(frozen=True)
class ColumnMapping:
    """How a row is read.

    Args:
        fields: the column of each part.
        reason: a sentence that explains the mapping.
        unused: the first 20 columns that are not read, those set as unused before the others.
        unused_as_set: the columns that the source sets as unused.
        properties: names of role, content and other keys of messages that differ from the usual.
        system_prompt: a fixed system message, which replaces those of the rows.
        prompt_format: the prompt template of the source.
        prompt_format_no_input: the prompt template for rows without input.
        join: how rows with the id of a parent are joined, as plain data; empty for the default.
    """

    kind: RowKind
    fields: dict[str, str]
    reason: str = ""
    unused: list[str] = field(default_factory=list)
    unused_as_set: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    system_prompt: str | None = None
    prompt_format: str | None = None
    prompt_format_no_input: str | None = None
    join: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the mapping as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ColumnMapping:
        """Return the mapping from the result of `as_dict`, also of another version."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})
