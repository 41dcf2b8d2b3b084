"""Encode questions about a context in windows, with the tokens of the answer marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelforge.data.canonical.qa_windows import Window, split_into_windows
from modelforge.modeling.tokenize.encode import IGNORE_INDEX, TokenizedExample

EMPTY_WINDOW = Window([], [], [], 0)


@dataclass(frozen=True)
class QAExample(TokenizedExample):
    """One window; `start` and `end` are the first and last token of the answer.

    In a window without the answer both are the window's `no_answer_index`.
    """

    window: Window = EMPTY_WINDOW
    start: int = 0
    end: int = 0


def encode_qa(row: dict[str, Any], tokenizer: Any, max_length: int) -> list[QAExample]:
    """Return windows of at most `max_length` tokens; empty if the question leaves no tokens.

    The labels mark the first answer.
    """
    windows = split_into_windows(row["question"], row["context"], tokenizer, max_length)
    span = None
    if row["answers"]:
        first = row["answers"][0]
        span = first["start"], first["start"] + len(first["text"])
    return [_example(window, span) for window in windows]


def _example(window: Window, span: tuple[int, int] | None) -> QAExample:
    start = end = window.no_answer_index
    answer = _answer_tokens(window, span) if span else range(0)
    if answer:
        start, end = answer[0], answer[-1]
    labels = [
        token if index in answer else IGNORE_INDEX for index, token in enumerate(window.input_ids)
    ]
    return QAExample(window.input_ids, labels, window=window, start=start, end=end)


def _answer_tokens(window: Window, span: tuple[int, int]) -> range:
    """Return the indices of the answer's tokens; empty unless the window has all of the answer."""
    inside = [
        index
        for index, offset in enumerate(window.offsets)
        if offset and offset[0] < span[1] and offset[1] > span[0]
    ]
    if not inside:
        return range(0)
    first, last = window.offsets[inside[0]], window.offsets[inside[-1]]
    is_whole = first and last and first[0] <= span[0] and last[1] >= span[1]
    return range(inside[0], inside[-1] + 1) if is_whole else range(0)
