"""Which columns hold the question and which the answer, with the reason in words."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from modelforge.errors import DataError, Problem

Kind = Literal[
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
class Mapping:
    """How a row is read: `fields` names the column for each part, `reason` says why.

    `unused` holds the first 20 columns that are not read.
    """

    kind: Kind
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
    def from_dict(cls, data: dict[str, Any]) -> Mapping:
        """Read back what `as_dict` gave, in this release or another."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


@dataclass(frozen=True)
class _Spelling:
    kind: Kind
    parts: dict[str, str]
    optional: dict[str, str] = field(default_factory=dict)


# The first that fits most rows is taken, so the more particular stand before the more general.
_SPELLINGS = (
    _Spelling("messages", {"messages": "messages"}),
    _Spelling(
        "instruction",
        {"instruction": "instruction", "answer": "output"},
        {"input": "input", "system": "system"},
    ),
    _Spelling("pair", {"prompt": "prompt", "answer": "completion"}, {"system": "system"}),
    _Spelling("pair", {"prompt": "input", "answer": "output"}, {"system": "system"}),
    _Spelling("pair", {"prompt": "question", "answer": "answer"}, {"system": "system"}),
    _Spelling("text", {"text": "text"}),
)
ACCEPTED = (
    "input and output, prompt and completion, instruction and output (with or without input), "
    "question and answer, messages, or text"
)
_SAID = {
    "messages": "as a conversation",
    "instruction": "as an instruction and its answer",
    "pair": "as a question and its answer",
    "text": "as plain text",
}


def detect(rows: Sequence[AnyMapping[str, Any]], name: str = "dataset") -> Mapping:
    """Return the spelling that fits most of `rows`; raises DataError when none fits any."""
    best: Mapping | None = None
    best_count = 0
    for spelling in _SPELLINGS:
        mapping, count = _fit(spelling, rows)
        if count > best_count:
            best, best_count = mapping, count
    if best is None:
        raise _unknown(rows, name)
    return best


def _fit(spelling: _Spelling, rows: Sequence[AnyMapping[str, Any]]) -> tuple[Mapping | None, int]:
    """Return the spelling as these rows capitalise it, and how many rows have all of its parts."""
    columns = _columns(rows)
    actual = {column.strip().lower(): column for column in reversed(columns)}
    if any(column not in actual for column in spelling.parts.values()):
        return None, 0
    parts = {part: actual[column] for part, column in spelling.parts.items()}
    extra = {part: actual[col] for part, col in spelling.optional.items() if col in actual}
    wanted = list(parts.values())
    count = sum(all(column in row for column in wanted) for row in rows)
    fields = parts | extra
    unused = [column for column in columns if column not in fields.values()]
    return Mapping(
        spelling.kind, fields, _reason(spelling.kind, fields, unused), unused[:20]
    ), count


def _columns(rows: Sequence[AnyMapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(column) for row in rows for column in row))


def _reason(kind: Kind, fields: dict[str, str], unused: list[str]) -> str:
    named = [column[:40] for column in fields.values()]
    if len(named) == 1:
        text = f"Read {_SAID[kind]}, because there is a column {named[0]}."
    else:
        listed = ", ".join(named[:-1]) + f" and {named[-1]}"
        text = f"Read {_SAID[kind]}, because there are columns {listed}."
    if not unused:
        return text
    return f"{text} Not used: {_some(unused)}."


def _some(columns: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(column[:40] for column in columns[:most])
    return shown if len(columns) <= most else f"{shown} and {len(columns) - most} more"


def _unknown(rows: Sequence[AnyMapping[str, Any]], name: str) -> DataError:
    columns = _columns(rows)
    if not columns:
        what = "has rows without any column."
    elif len(columns) == 1:
        what = f"has only the column {columns[0][:40]}, which says neither question nor answer."
    else:
        what = f"has the columns {_some(columns)}, which say neither question nor answer."
    return DataError(Problem(name, what, f"Name the columns {ACCEPTED}."))
