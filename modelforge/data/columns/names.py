"""The names that columns go by: which of them together make which kind of row."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from modelforge.data.columns.mapping import RowKind

Rows = Sequence[AnyMapping[str, Any]]

PROMPT_COLUMNS = ("instruction", "prompt", "input", "question", "query")
COMPLETION_COLUMNS = ("output", "completion", "answer", "response")
SYSTEM_COLUMNS = ("system", "system_prompt")
MESSAGES_COLUMNS = ("messages", "conversations", "conversation")
TOOLS_COLUMNS = ("tools",)


@dataclass(frozen=True)
class ColumnPattern:
    """The columns of one kind of row; of the names of an optional part the first there is taken."""

    kind: RowKind
    parts: dict[str, str]
    optional: dict[str, tuple[str, ...]] = field(default_factory=dict)


_SYSTEM: dict[str, tuple[str, ...]] = {"system": SYSTEM_COLUMNS}
_CHAT: dict[str, tuple[str, ...]] = {"system": SYSTEM_COLUMNS, "tools": TOOLS_COLUMNS}


def _pair(prompt: str, answer: str) -> ColumnPattern:
    return ColumnPattern("pair", {"prompt": prompt, "answer": answer}, _SYSTEM)


# The first that fits most rows is taken, so the more particular stand before the more general.
COLUMN_PATTERNS = (
    ColumnPattern(
        "preference",
        {"chosen": "chosen", "rejected": "rejected"},
        {"prompt": ("prompt", "question", "instruction", "input"), **_CHAT},
    ),
    ColumnPattern(
        "preference-label",
        {"prompt": "prompt", "completion": "completion", "label": "label"},
        _SYSTEM,
    ),
    *(
        ColumnPattern("span", {"context": "context", "question": "question", "answers": answers})
        for answers in ("answers", "answer")
    ),
    *(ColumnPattern("messages", {"messages": name}, _CHAT) for name in MESSAGES_COLUMNS),
    *(
        ColumnPattern(
            "instruction",
            {"instruction": "instruction", "answer": answer},
            {"input": ("input", "context"), **_SYSTEM},
        )
        for answer in COMPLETION_COLUMNS
    ),
    _pair("prompt", "completion"),
    _pair("input", "output"),
    _pair("question", "answer"),
    _pair("prompt", "response"),
    _pair("question", "response"),
    _pair("query", "response"),
    *(
        ColumnPattern("summary", {"document": document, "summary": "summary"}, _SYSTEM)
        for document in ("document", "article", "text")
    ),
    ColumnPattern("text", {"text": "text"}),
)
SUPPORTED_COLUMNS = (
    "input and output, prompt and completion, instruction and output (with or without input), "
    "question and answer, messages, conversations, text, document and summary, context with "
    "question and answers, or prompt with chosen and rejected"
)
KIND_TEXTS: dict[str, str] = {
    "messages": "as a conversation",
    "instruction": "as an instruction and its answer",
    "pair": "as a question and its answer",
    "text": "as plain text",
    "summary": "as a text and its summary",
    "preference": "as a better and a worse answer",
    "preference-label": "as an answer marked good or bad",
    "span": "as a question answered by words of a context",
}
_ROLES = ("role", "from", "speaker", "sender", "author")
_CONTENTS = ("content", "value", "text", "message")


def columns_of(rows: Rows) -> list[str]:
    """Return the columns of all rows, in the order they come."""
    return list(dict.fromkeys(str(column) for row in rows for column in row))


def by_normalized_name(columns: Sequence[str]) -> dict[str, str]:
    """Return the columns by their name without capitals and outer spaces; the first wins."""
    return {column.strip().lower(): column for column in reversed(columns)}


def best_pattern(
    rows: Rows, kinds: Sequence[str] | None = None
) -> tuple[ColumnPattern, dict[str, str]] | None:
    """Return the spelling that fits most rows, and its columns as these rows capitalise them."""
    actual = by_normalized_name(columns_of(rows))
    best: tuple[ColumnPattern, dict[str, str]] | None = None
    most = 0
    for spelling in COLUMN_PATTERNS:
        if kinds is not None and spelling.kind not in kinds:
            continue
        if any(column not in actual for column in spelling.parts.values()):
            continue
        parts = {part: actual[column] for part, column in spelling.parts.items()}
        count = sum(all(column in row for column in parts.values()) for row in rows)
        if count > most and _values_fit(spelling.kind, parts, rows):
            best, most = (spelling, parts | optional_parts(spelling, actual)), count
    return best


def optional_parts(spelling: ColumnPattern, actual: dict[str, str]) -> dict[str, str]:
    """Return the optional parts that are there."""
    found = {}
    for part, names in spelling.optional.items():
        for name in names:
            if name in actual and name not in spelling.parts.values():
                found[part] = actual[name]
                break
    return found


def detect_properties(values: Sequence[Any]) -> dict[str, str]:
    """Return what role and content are called in these conversations, where it is otherwise."""
    for value in values:
        first = value[0] if isinstance(value, list) and value else None
        if not isinstance(first, dict):
            continue
        role = next((name for name in _ROLES if name in first), "role")
        content = next((name for name in _CONTENTS if name in first), "content")
        named = {"role": role, "content": content}
        return {part: name for part, name in named.items() if part != name}
    return {}


def _values_fit(kind: RowKind, parts: dict[str, str], rows: Rows) -> bool:
    """Say whether the values are what this kind needs; `label` is also what a topic is called."""
    if kind == "preference-label":
        marks = (True, False, 0, 1, "true", "false", "0", "1")
        return all(_plain(row.get(parts["label"])) in (*marks, None, "") for row in rows)
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip().lower()
    return value if isinstance(value, bool | int | float | None) else "something else"
