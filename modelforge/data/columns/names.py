"""Known column names, and the patterns of them that make each kind of row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelforge.data.canonical.cells import (
    CONTENT_KEYS,
    ROLE_KEYS,
    conversation_in,
    looks_like_conversation,
    parse_cell,
)
from modelforge.data.columns.mapping import RowKind

Rows = Sequence[Mapping[str, Any]]

PROMPT_COLUMNS = ("instruction", "prompt", "input", "question", "query", "input_text", "text_input")
COMPLETION_COLUMNS = ("output", "completion", "answer", "response", "output_text")
SYSTEM_COLUMNS = (
    *("system", "system_prompt", "system_message"),
    *("systeminstruction", "system_instruction"),
)
MESSAGES_COLUMNS = ("messages", "conversations", "conversation")
TOOLS_COLUMNS = ("tools", "functions", "toolconfig")
# Of Gemini, and of Axolotl without a template; columns of other meaning have these names as well.
CONTENTS_COLUMN, SEGMENTS_COLUMN = "contents", "segments"
INPUT_COLUMNS = ("input", "context")
HISTORY_COLUMNS = ("history",)
LABEL_COLUMNS = ("label", "kto_tag")
# The names of a chosen and a rejected completion in TRL, Axolotl, LLaMA-Factory, OpenAI's
# fine-tuning and ms-swift, in this order.
PREFERENCE_COLUMNS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("chosen_messages", "rejected_messages"),
    ("preferred_output", "non_preferred_output"),
    *((chosen, "rejected_messages") for chosen in MESSAGES_COLUMNS),
    *((chosen, "rejected_response") for chosen in (*MESSAGES_COLUMNS, *COMPLETION_COLUMNS)),
)


@dataclass(frozen=True)
class ColumnPattern:
    """The columns of one kind of row; of an optional part the first column present is used.

    Args:
        fits: whether the values of one row suit the pattern.
        only_if_set: whether the kind must be set, because the columns alone do not tell it.
    """

    kind: RowKind
    parts: dict[str, str]
    optional: dict[str, tuple[str, ...]] = field(default_factory=dict)
    fits: Callable[[Mapping[str, Any], dict[str, str]], bool] | None = None
    only_if_set: bool = False


# The names that a row may have; an object with one of them is no wrapper of rows.
KNOWN_COLUMNS = frozenset(
    {*PROMPT_COLUMNS, *COMPLETION_COLUMNS, *MESSAGES_COLUMNS, *HISTORY_COLUMNS, *TOOLS_COLUMNS}
    | {name for names in PREFERENCE_COLUMNS for name in names}
    | {"text", "document", "article", "summary", "context", "answers"}
    | {CONTENTS_COLUMN, SEGMENTS_COLUMN}
)
# The columns of the optional parts of a row, the usual name first.
USUAL_COLUMNS: dict[str, tuple[str, ...]] = {
    "input": INPUT_COLUMNS,
    "history": HISTORY_COLUMNS,
    "system": SYSTEM_COLUMNS,
    "tools": TOOLS_COLUMNS,
}
_SYSTEM: dict[str, tuple[str, ...]] = {"system": SYSTEM_COLUMNS}
_CHAT: dict[str, tuple[str, ...]] = {**_SYSTEM, "tools": TOOLS_COLUMNS}
_MORE = USUAL_COLUMNS
_LABELS = (True, False, 0, 1, "true", "false", "0", "1", None, "")


def _is_label(row: Mapping[str, Any], parts: dict[str, str]) -> bool:
    """Return whether the value is a label; a column `label` may also hold a topic."""
    label = row.get(parts["label"])
    return (label.strip().lower() if isinstance(label, str) else label) in _LABELS


def _is_true_or_false(row: Mapping[str, Any], parts: dict[str, str]) -> bool:
    """Return whether the value is a label, and not a number that may be a class."""
    label = row.get(parts["label"])
    return str(label).strip().lower() in ("true", "false", "none", "")


def _is_conversation(row: Mapping[str, Any], parts: dict[str, str]) -> bool:
    return conversation_in(row.get(parts["messages"])) is not None


def _is_text_of_conversation(row: Mapping[str, Any], parts: dict[str, str]) -> bool:
    return looks_like_conversation(str(row.get(parts["messages"])))


def _is_list(row: Mapping[str, Any], parts: dict[str, str]) -> bool:
    """Return whether the value may be a list of objects: rows with errors do not decide."""
    (column,) = parts.values()
    return not isinstance(parse_cell(row.get(column)), str)


def _has_labels(row: Mapping[str, Any], parts: dict[str, str]) -> bool:
    """Return whether the value may be segments, and not those of a transcript with times."""
    value = parse_cell(row.get(parts["segments"]))
    items = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    return not isinstance(value, str) and (not items or any("label" in item for item in items))


def _has_two(row: Mapping[str, Any], parts: dict[str, str]) -> bool:
    value = parse_cell(row.get(parts["chosen"]))
    return isinstance(value, list) and len(value) == 2


def _pair(prompt: str, completion: str) -> ColumnPattern:
    return ColumnPattern("pair", {"prompt": prompt, "answer": completion}, _MORE)


def _labelled(prompt: str, completion: str, label: str, fits: Any) -> ColumnPattern:
    parts = {"prompt": prompt, "completion": completion, "label": label}
    return ColumnPattern("preference-label", parts, _MORE, fits)


# The usual pairs of names precede the other combinations.
_USUAL_PAIRS = (
    ("prompt", "completion"),
    ("input", "output"),
    ("question", "answer"),
    ("prompt", "response"),
    ("question", "response"),
    ("query", "response"),
)
_ASKING = ("prompt", "question", "query", "input", "input_text", "text_input")
_PAIRS = tuple(
    dict.fromkeys(
        [
            *(("prompt", each) for each in COMPLETION_COLUMNS if each != "output"),
            ("prompt", "output"),
            *_USUAL_PAIRS,
            *((prompt, each) for prompt in _ASKING for each in COMPLETION_COLUMNS),
        ]
    )
)
# The first pattern that fits most rows is used, so specific ones precede general ones.
COLUMN_PATTERNS = (
    *(
        ColumnPattern(
            "preference",
            {"chosen": chosen, "rejected": rejected},
            {"prompt": ("prompt", "question", "instruction", "input", "query", *MESSAGES_COLUMNS)}
            | _MORE,
        )
        for chosen, rejected in PREFERENCE_COLUMNS
    ),
    *(
        ColumnPattern(
            "preference",
            {"prompt": prompt, "chosen": column, "rejected": column},
            _MORE,
            _has_two,
            only_if_set=True,
        )
        for prompt in PROMPT_COLUMNS
        for column in COMPLETION_COLUMNS
        if prompt != column
    ),
    _labelled("prompt", "completion", "label", _is_label),
    *(
        _labelled(prompt, completion, label, _is_true_or_false)
        for label in LABEL_COLUMNS
        for prompt in PROMPT_COLUMNS
        for completion in COMPLETION_COLUMNS
    ),
    *(
        ColumnPattern(
            "preference-label", {"messages": name, "label": label}, _CHAT, _is_true_or_false
        )
        for label in LABEL_COLUMNS
        for name in MESSAGES_COLUMNS
    ),
    *(
        ColumnPattern("span", {"context": "context", "question": "question", "answers": answers})
        for answers in ("answers", "answer")
    ),
    *(ColumnPattern("messages", {"messages": name}, _CHAT) for name in MESSAGES_COLUMNS),
    ColumnPattern("messages", {"messages": CONTENTS_COLUMN}, _CHAT, _is_list),
    ColumnPattern("segments", {"segments": SEGMENTS_COLUMN}, {}, _has_labels),
    *(
        ColumnPattern(
            "instruction",
            {"instruction": "instruction", "answer": completion},
            _MORE,
        )
        for completion in COMPLETION_COLUMNS
    ),
    *(_pair(prompt, completion) for prompt, completion in _PAIRS),
    *(
        ColumnPattern("summary", {"document": document, "summary": "summary"}, _SYSTEM)
        for document in ("document", "article", "text", "dialogue", "report")
    ),
    ColumnPattern("summary", {"document": "article", "summary": "highlights"}, _SYSTEM),
    ColumnPattern("messages", {"messages": "text"}, _CHAT, _is_conversation),
    ColumnPattern("messages", {"messages": "text"}, _CHAT, _is_text_of_conversation),
    ColumnPattern("text", {"text": "text"}),
    ColumnPattern("segments", {"segments": SEGMENTS_COLUMN}, {}, _is_list),
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
    "segments": "text in labelled segments",
}


def columns_of(rows: Rows) -> list[str]:
    """Return the columns of all rows in order of appearance."""
    return list(dict.fromkeys(str(column) for row in rows for column in row))


def is_message_tree(columns: Sequence[str]) -> bool:
    """Return whether every row is one message that names the message before it."""
    return {"message_id", "parent_id"} <= by_normalized_name(columns).keys()


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
        if pattern.only_if_set if kinds is None else pattern.kind not in kinds:
            continue
        if any(column not in actual for column in pattern.parts.values()):
            continue
        parts = {part: actual[column] for part, column in pattern.parts.items()}
        count = sum(all(column in row for column in parts.values()) for row in rows)
        if count > best_count and _values_fit(pattern, parts, rows):
            best, best_count = (pattern, parts | optional_parts(pattern, actual)), count
    return best


def optional_parts(pattern: ColumnPattern, actual: dict[str, str]) -> dict[str, str]:
    """Return the columns of the optional parts that are present."""
    parts: dict[str, str] = {}
    for part, names in pattern.optional.items():
        for name in names:
            taken = (*pattern.parts.values(), *parts.values())
            if name in actual and name not in taken and actual[name] not in taken:
                parts[part] = actual[name]
                break
    return parts


def detect_properties(values: Sequence[Any]) -> dict[str, str]:
    """Return the keys of role and content in conversations, where they differ from the usual."""
    for value in values:
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict):
            keys = {
                "role": next((key for key in ROLE_KEYS if key in first), "role"),
                "content": next((key for key in CONTENT_KEYS if key in first), "content"),
            }
            return {part: key for part, key in keys.items() if part != key}
    return {}


def _values_fit(pattern: ColumnPattern, parts: dict[str, str], rows: Rows) -> bool:
    return pattern.fits is None or all(pattern.fits(row, parts) for row in rows)
