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
]


@dataclass(frozen=True)
class ColumnMapping:
    """How a row is read: `fields` names the column for each part, `reason` says why.

    `unused` holds the first 20 columns that are not read. `properties` says what role, content
    and the like are called in messages; a fixed `system_prompt` and the formats are the source's.
    """

    kind: RowKind
    fields: dict[str, str]
    reason: str = ""
    unused: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    system_prompt: str | None = None
    prompt_format: str | None = None
    prompt_format_no_input: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the mapping as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ColumnMapping:
        """Read back what `as_dict` gave, in this release or another."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})
