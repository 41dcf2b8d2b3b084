"""Known column names, and the patterns of them that make each kind of row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelforge.data.columns.mapping import RowKind

Rows = Sequence[Mapping[str, Any]]

PROMPT_COLUMNS = ("instruction", "prompt", "input", "question", "query")
COMPLETION_COLUMNS = ("output", "completion", "answer", "response")
SYSTEM_COLUMNS = ("system", "system_prompt")
MESSAGES_COLUMNS = ("messages", "conversations", "conversation")
TOOLS_COLUMNS = ("tools",)


@dataclass(frozen=True)
class ColumnPattern:
    """The columns of one kind of row; of an optional part the first column present is used."""

    kind: RowKind
    parts: dict[str, str]
    optional: dict[str, tuple[str, ...]] = field(default_factory=dict)


_SYSTEM: dict[str, tuple[str, ...]] = {"system": SYSTEM_COLUMNS}
_CHAT: dict[str, tuple[str, ...]] = {"system": SYSTEM_COLUMNS, "tools": TOOLS_COLUMNS}


def _pair(prompt: str, completion: str) -> ColumnPattern:
    return ColumnPattern("pair", {"prompt": prompt, "answer": completion}, _SYSTEM)


# The first pattern that fits most rows is used, so specific ones precede general ones.
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
            {"instruction": "instruction", "answer": completion},
            {"input": ("input", "context"), **_SYSTEM},
        )
        for completion in COMPLETION_COLUMNS
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
    "messages": "conversations",
    "instruction": "instructions with completions",
    "pair": "prompts with completions",
    "text": "plain text",
    "summary": "documents with summaries",
    "preference": "preference pairs",
    "preference-label": "completions labelled good or bad",
    "span": "questions with answers from a context",
}
_ROLE_KEYS = ("role", "from", "speaker", "sender", "author")
_CONTENT_KEYS = ("content", "value", "text", "message")
_LABELS = (True, False, 0, 1, "true", "false", "0", "1", None, "")


def columns_of(rows: Rows) -> list[str]:
    """Return the columns of all rows in order of appearance."""
    return list(dict.fromkeys(str(column) for row in rows for column in row))


def by_normalized_name(columns: Sequence[str]) -> dict[str, str]:
    """Return the columns by lower-case name without outer spaces; the first of a name wins."""
    return {column.strip().lower(): column for column in reversed(columns)}


def best_pattern(
    rows: Rows, kinds: Sequence[str] | None = None
) -> tuple[ColumnPattern, dict[str, str]] | None:
    """Return the pattern that fits most rows, and the column of each part; None if none fits.

    `kinds` restricts the patterns that are considered.
    """
    actual = by_normalized_name(columns_of(rows))
    best: tuple[ColumnPattern, dict[str, str]] | None = None
    best_count = 0
    for pattern in COLUMN_PATTERNS:
        if kinds is not None and pattern.kind not in kinds:
            continue
        if any(column not in actual for column in pattern.parts.values()):
            continue
        parts = {part: actual[column] for part, column in pattern.parts.items()}
        count = sum(all(column in row for column in parts.values()) for row in rows)
        if count > best_count and _values_fit(pattern.kind, parts, rows):
            best, best_count = (pattern, parts | optional_parts(pattern, actual)), count
    return best


def optional_parts(pattern: ColumnPattern, actual: dict[str, str]) -> dict[str, str]:
    """Return the columns of the optional parts that are present."""
    parts = {}
    for part, names in pattern.optional.items():
        for name in names:
            if name in actual and name not in pattern.parts.values():
                parts[part] = actual[name]
                break
    return parts


def detect_properties(values: Sequence[Any]) -> dict[str, str]:
    """Return the keys of role and content in conversations, where they differ from the usual."""
    for value in values:
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict):
            keys = {
                "role": next((key for key in _ROLE_KEYS if key in first), "role"),
                "content": next((key for key in _CONTENT_KEYS if key in first), "content"),
            }
            return {part: key for part, key in keys.items() if part != key}
    return {}


def _values_fit(kind: RowKind, parts: dict[str, str], rows: Rows) -> bool:
    """Return whether the values suit the kind; a column `label` may also hold a topic."""
    if kind != "preference-label":
        return True
    labels = (row.get(parts["label"]) for row in rows)
    words = (label.strip().lower() if isinstance(label, str) else label for label in labels)
    return all(word in _LABELS for word in words)
