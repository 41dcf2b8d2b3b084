"""The settings of a source that change how its files are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from modelforge.config.schema.data import DEFAULT_CHAT_PAUSE, Source


@dataclass(frozen=True)
class ReadOptions:
    """How a file is read; the fields are settings of a source.

    Args:
        encoding: the encoding of a text by Python's name; None detects it.
        type: the row type; a chat export of the type `text` is read as plain text.
        sheet: the sheet of a workbook; None reads the first sheet that has cells.
        chat_person: the person of a chat export whose messages are the answers.
        chat_pause: the pause in hours after which another conversation begins.
        chat_mask: whether numbers and addresses in a chat export are replaced.
    """

    encoding: str | None = None
    type: str = "auto"
    sheet: str | None = None
    chat_person: str | None = None
    chat_pause: float = DEFAULT_CHAT_PAUSE
    chat_mask: bool = False

    @classmethod
    def of(cls, source: Source | None) -> ReadOptions:
        """Return the options of a source; the defaults for None."""
        return cls() if source is None else cls.from_mapping(dict(source))

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> ReadOptions:
        """Return the options of a source in a run's record; old records have only the encoding."""
        return cls.from_mapping({**(entry.get("source") or {}), "encoding": entry.get("encoding")})

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ReadOptions:
        """Return the options among these settings; other names and None are left out."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: values[name] for name in names if values.get(name) is not None})


DEFAULT_OPTIONS = ReadOptions()
READ_SETTINGS = tuple(field.name for field in fields(ReadOptions))
