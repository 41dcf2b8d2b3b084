"""Questions about a context as tokens, with the answer marked where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelforge.data.canonical.qa_windows import Window, split_into_windows
from modelforge.modeling.tokenize.encode import IGNORE_INDEX, TokenizedExample

EMPTY_WINDOW = Window([], [], [], 0)


@dataclass(frozen=True)
class QAExample(TokenizedExample):
    """One window with the first and last token of the answer; both point at none without one."""

    window: Window = EMPTY_WINDOW
    start: int = 0
    end: int = 0


def encode_qa(row: dict[str, Any], tokenizer: Any, max_length: int) -> list[QAExample]:
    """Return question and context in windows of `max_length`; labels mark the first answer.

    None where the question leaves no room for the context.
    """
    windows = split_into_windows(row["question"], row["context"], tokenizer, max_length)
    span = _span(row)
    return [_marked(window, span) for window in windows]


def _span(row: dict[str, Any]) -> tuple[int, int] | None:
    if not row["answers"]:
        return None
    first = row["answers"][0]
    return first["start"], first["start"] + len(first["text"])


def _marked(window: Window, span: tuple[int, int] | None) -> QAExample:
    """Mark the tokens of the answer; a window that has only a part of it marks none."""
    inside = [
        number
        for number, place in enumerate(window.offsets)
        if span and place and place[0] < span[1] and place[1] > span[0]
    ]
    whole = bool(inside) and _covers(window, inside, span)
    start, end = (
        (inside[0], inside[-1]) if whole else (window.no_answer_index, window.no_answer_index)
    )
    labels = [
        token if whole and start <= number <= end else IGNORE_INDEX
        for number, token in enumerate(window.input_ids)
    ]
    return QAExample(window.input_ids, labels, window=window, start=start, end=end)


def _covers(window: Window, inside: list[int], span: tuple[int, int] | None) -> bool:
    first, last = window.offsets[inside[0]], window.offsets[inside[-1]]
    return bool(span and first and last and first[0] <= span[0] and last[1] >= span[1])
