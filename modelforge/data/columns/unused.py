"""Find unused columns that hold a part of the question or the answer, or images and sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from modelforge.data.canonical.cells import parse_cell
from modelforge.data.canonical.convert import fingerprint, to_canonical
from modelforge.data.canonical.messages import UnusableRowError
from modelforge.data.checks.counters import MAX_COLUMNS
from modelforge.data.checks.findings import DataFinding
from modelforge.data.columns.mapping import ColumnMapping
from modelforge.data.columns.names import (
    COMPLETION_COLUMNS,
    HISTORY_COLUMNS,
    INPUT_COLUMNS,
    LABEL_COLUMNS,
    MESSAGES_COLUMNS,
    PREFERENCE_COLUMNS,
    PROMPT_COLUMNS,
    SYSTEM_COLUMNS,
    TOOLS_COLUMNS,
    Rows,
)

# Names to which a known format gives a meaning; other columns count if they hold long texts.
_MEANINGFUL = frozenset(PROMPT_COLUMNS).union(
    *(COMPLETION_COLUMNS, SYSTEM_COLUMNS, MESSAGES_COLUMNS, TOOLS_COLUMNS, INPUT_COLUMNS),
    *(HISTORY_COLUMNS, LABEL_COLUMNS, *PREFERENCE_COLUMNS),
    ("document", "article", "passage", "background", "text", "reasoning", "reasoning_content"),
    ("thinking", "thought", "rationale", "explanation", "chain_of_thought", "cot", "solution"),
    ("user", "assistant", "human", "bot", "answers", "choices", "options", "hint", "hypothesis"),
)
_MEDIA = frozenset({"image", "images", "video", "videos", "audio", "audios"})
_MAX_ROWS = 20
_MAX_CHARS = 20_000
_MAX_DEPTH = 8
_MIN_LONG_CHARS = 40
_MIN_LONG_WORDS = 5
_MAX_SHOWN = 5


def unused_column_findings(rows: Rows, mapping: ColumnMapping, name: str) -> list[DataFinding]:
    """Return the findings about columns of the first rows that are not read."""
    findings = []
    unused = meaningful_unused_columns(rows, mapping)
    if unused:
        noun, verb = ("column", "is") if len(unused) == 1 else ("columns", "are")
        what = (
            f"The {noun} {_list(unused)} {verb} not used, but may belong to the question or answer."
        )
        remedy = "Set the column of each part, join the texts in the file, or set them as unused."
        findings.append(DataFinding("unused-columns", "caution", what, remedy, name, len(unused)))
    media = [
        column
        for column in _unused(rows, mapping)
        if _plain_name(column) in _MEDIA and any(row.get(column) for row in rows)
    ]
    if media:
        noun, verb = ("column", "holds") if len(media) == 1 else ("columns", "hold")
        what = f"The {noun} {_list(media)} {verb} images, video or sound, which are not used."
        remedy = "Only the text is trained, with marks such as <image> in it; use text-only rows."
        findings.append(DataFinding("media-columns", "caution", what, remedy, name, len(media)))
    return findings


def meaningful_unused_columns(rows: Rows, mapping: ColumnMapping) -> list[str]:
    """Return the columns that are not read and hold text which the examples do not have."""
    sample = list(islice(_with_text(rows, mapping), _MAX_ROWS))
    return [
        column
        for column in _unused(rows, mapping)
        if _plain_name(column) not in _MEDIA and _is_meaningful(column, sample)
    ]


def _is_meaningful(column: str, sample: Sequence[tuple[Mapping[str, Any], str, str]]) -> bool:
    is_named = _plain_name(column) in _MEANINGFUL
    new = [_new_text(row.get(column), text, answer) for row, text, answer in sample]
    if is_named:
        return any(new)
    long = [text for text in new if len(text) >= _MIN_LONG_CHARS and _is_prose(text)]
    return bool(sample) and len(long) * 2 > len(sample) and len(set(long)) > 1


def _with_text(rows: Rows, mapping: ColumnMapping) -> Iterator[tuple[Mapping[str, Any], str, str]]:
    """Yield usable rows with their whole text and their last answer, without white space."""
    for row in rows:
        try:
            canonical = to_canonical(dict(row), mapping)
        except UnusableRowError:
            continue
        text = fingerprint(canonical)
        yield row, _squeeze(text), _squeeze(text.rpartition("\x01")[2])


def _new_text(value: Any, text: str, answer: str) -> str:
    """Return the texts in a value that are new to an example; "" for a copy of the example."""
    texts = [each for each in _texts(parse_cell(value)) if _squeeze(each) not in text]
    joined = " ".join(texts)
    is_copy = bool(answer) and len(answer) > 1 and answer in _squeeze(joined)
    return "" if is_copy else joined.strip()


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value[:_MAX_CHARS]
    elif isinstance(value, bool | int | float) and value == value:
        yield str(value)
    elif isinstance(value, list | dict) and depth < _MAX_DEPTH:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item, depth + 1)


def _unused(rows: Rows, mapping: ColumnMapping) -> list[str]:
    """Return the columns that are not read and not set as unused."""
    columns = dict.fromkeys(str(column) for row in rows for column in row)
    known = {*mapping.fields.values(), *mapping.unused_as_set}
    return [column for column in islice(columns, MAX_COLUMNS) if column not in known]


def _plain_name(column: str) -> str:
    return column.strip().lower()


def _squeeze(text: str) -> str:
    return "".join(text.split())


def _is_prose(text: str) -> bool:
    return len(text.split()) >= _MIN_LONG_WORDS


def _list(columns: Sequence[str]) -> str:
    more = len(columns) - _MAX_SHOWN
    shown = ", ".join(column[:40] for column in columns[:_MAX_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
