"""Split question and context into windows that fit a model, and find the best answer in them.

Without torch: used for training, for evaluation and in the chat.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Windows overlap, so that an answer across the edge of one is whole in the next.
STRIDE = 128
MIN_CONTEXT_TOKENS = 16
# As in SQuAD's own scripts: the number of starts and ends that are combined in each window.
TOP_K = 20
MAX_ANSWER_TOKENS = 64

# Start and end of a token in the characters of the context.
Span = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A question and a part of the context as tokens.

    Args:
        token_type_ids: empty for models without token types.
        offsets: the span of each token in the context; None for tokens outside of it.
        no_answer_index: the token that a model points at if this window has no answer.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    offsets: list[Span | None]
    no_answer_index: int


@dataclass(frozen=True)
class QaAnswer:
    """An answer, "" for none, its start in the context, and its probability."""

    text: str
    start: int | None
    score: float


def split_into_windows(
    question: str, context: str, tokenizer: Any, max_length: int
) -> list[Window]:
    """Return question and context in windows of at most `max_length` tokens.

    Returns:
        The windows; an empty list if the question leaves too few tokens for the context.
    """
    # Some models have fewer usable positions than their config says; their tokenizers know.
    max_length = min(max_length, tokenizer.model_max_length)
    question_ids = tokenizer(question, add_special_tokens=False, verbose=False)["input_ids"]
    special_tokens = tokenizer.num_special_tokens_to_add(pair=True)
    context_tokens = max_length - len(question_ids) - special_tokens
    if context_tokens < MIN_CONTEXT_TOKENS:
        return []
    encoded = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=max_length,
        stride=min(STRIDE, context_tokens // 4),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    type_ids = encoded.get("token_type_ids") or [[]] * len(encoded["input_ids"])
    windows = []
    for index, input_ids in enumerate(encoded["input_ids"]):
        offsets = _context_offsets(encoded["offset_mapping"][index], encoded.sequence_ids(index))
        cls = tokenizer.cls_token_id
        no_answer_index = input_ids.index(cls) if cls in input_ids else 0
        windows.append(Window(input_ids, type_ids[index], offsets, no_answer_index))
    return windows


def best_answer(
    context: str, windows: Sequence[Window], starts: Sequence[Any], ends: Sequence[Any]
) -> QaAnswer:
    """Return the most probable answer, as in SQuAD 2.0.

    There is no answer if no span in any window has a higher score than the lowest score that a
    window gives to having none.

    `starts` and `ends` hold the logits of each window, with shape (tokens,).
    """
    scored = list(zip(windows, starts, ends, strict=True))
    if not scored:
        return QaAnswer("", None, 1.0)
    no_answer_score = min(
        float(start[window.no_answer_index]) + float(end[window.no_answer_index])
        for window, start, end in scored
    )
    spans = heapq.nlargest(TOP_K, (span for one in scored for span in _top_spans(*one)))
    if not spans:
        return QaAnswer("", None, 1.0)
    best_score, first, last = spans[0]
    highest = max(best_score, no_answer_score)
    # Overlapping windows find the same span twice; it counts once, with its higher score.
    distinct = {(begin, end): score for score, begin, end in reversed(spans)}
    scores = [*distinct.values(), no_answer_score]
    total = sum(math.exp(score - highest) for score in scores)
    if no_answer_score >= best_score:
        return QaAnswer("", None, 1 / total)
    return QaAnswer(context[first:last], first, 1 / total)


def _top_spans(
    window: Window, starts: Sequence[float], ends: Sequence[float]
) -> Iterator[tuple[float, int, int]]:
    """Yield the most probable spans of a window: score, start and end in the context."""
    inside = [index for index, span in enumerate(window.offsets) if span is not None]
    top_starts = heapq.nlargest(TOP_K, inside, key=lambda index: float(starts[index]))
    top_ends = heapq.nlargest(TOP_K, inside, key=lambda index: float(ends[index]))
    for start in top_starts:
        for end in top_ends:
            first, last = window.offsets[start], window.offsets[end]
            if first and last and 0 <= end - start < MAX_ANSWER_TOKENS:
                yield float(starts[start]) + float(ends[end]), first[0], last[1]


def _context_offsets(
    offsets: Sequence[Span], sequence_ids: Sequence[int | None]
) -> list[Span | None]:
    pairs = zip(offsets, sequence_ids, strict=True)
    return [
        (start, end) if sequence == 1 and end > start else None for (start, end), sequence in pairs
    ]
