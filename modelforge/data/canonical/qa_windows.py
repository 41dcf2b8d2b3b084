"""A question and its context in windows that a model can read, and the best answer in them.

Pure: used where spans are trained, where they are scored, and where a trained model answers.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Windows overlap, so that an answer across the edge of one stands whole in the next.
STRIDE = 128
MIN_CONTEXT_TOKENS = 16
# As SQuAD's own scripts look: so many beginnings and ends are tried in each window.
TOP_K = 20
MAX_ANSWER_TOKENS = 64

Place = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Question and a part of the context as tokens.

    `places` says of each token where it stands in the context, None outside of it. `none` is the
    token that a model points at when this window has no answer. `types` is empty for models
    that do not tell the two texts apart by it.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    offsets: list[Place | None]
    no_answer_index: int


@dataclass(frozen=True)
class QaAnswer:
    """One answer: its text, "" for none, where it begins, and its share of the belief."""

    text: str
    start: int | None
    score: float


def split_into_windows(
    question: str, context: str, tokenizer: Any, max_length: int
) -> list[Window]:
    """Return question and context in windows of `max_length` tokens.

    None where the question leaves no room for the context.
    """
    # Some models have fewer places than positions, and only their tokenizers know.
    max_length = min(max_length, tokenizer.model_max_length)
    asked = tokenizer(question, add_special_tokens=False, verbose=False)["input_ids"]
    room = max_length - len(asked) - tokenizer.num_special_tokens_to_add(pair=True)
    if room < MIN_CONTEXT_TOKENS:
        return []
    found = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=max_length,
        stride=min(STRIDE, room // 4),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    types = found.get("token_type_ids") or [[]] * len(found["input_ids"])
    return [
        Window(ids, types[number], _places(offsets, found.sequence_ids(number)), _none(ids, cls))
        for cls in [tokenizer.cls_token_id]
        for number, (ids, offsets) in enumerate(
            zip(found["input_ids"], found["offset_mapping"], strict=True)
        )
    ]


def best_answer(
    context: str, windows: Sequence[Window], starts: Sequence[Any], ends: Sequence[Any]
) -> QaAnswer:
    """Return the answer a model believes in most, after SQuAD 2.0.

    `starts` and `ends` hold the scores of every token of each window. There is no answer when no
    span in any window beats the lowest score that a window gives to having none.
    """
    read = list(zip(windows, starts, ends, strict=True))
    if not read:
        return QaAnswer("", None, 1.0)
    nothing = min(
        float(begin[w.no_answer_index]) + float(end[w.no_answer_index]) for w, begin, end in read
    )
    spans = heapq.nlargest(TOP_K, (span for one in read for span in _spans(*one)))
    if not spans:
        return QaAnswer("", None, 1.0)
    top, start, stop = spans[0]
    highest = max(top, nothing)
    # Overlapping windows find the same span twice; it counts once.
    kinds = {(begin, end): score for score, begin, end in reversed(spans)}
    mass = sum(math.exp(score - highest) for score in [*kinds.values(), nothing])
    if nothing >= top:
        return QaAnswer("", None, 1 / mass)
    return QaAnswer(context[start:stop], start, 1 / mass)


def _spans(
    window: Window, starts: Sequence[float], ends: Sequence[float]
) -> Iterator[tuple[float, int, int]]:
    """Yield the likeliest spans of one window as score, first and last place in the context."""
    inside = [number for number, place in enumerate(window.offsets) if place is not None]
    begins = heapq.nlargest(TOP_K, inside, key=lambda number: float(starts[number]))
    closes = heapq.nlargest(TOP_K, inside, key=lambda number: float(ends[number]))
    for begin in begins:
        for close in closes:
            first, last = window.offsets[begin], window.offsets[close]
            if first and last and 0 <= close - begin < MAX_ANSWER_TOKENS:
                yield float(starts[begin]) + float(ends[close]), first[0], last[1]


def _places(offsets: Sequence[Place], sides: Sequence[int | None]) -> list[Place | None]:
    pairs = zip(offsets, sides, strict=True)
    return [(begin, end) if side == 1 and end > begin else None for (begin, end), side in pairs]


def _none(ids: list[int], cls: int | None) -> int:
    return ids.index(cls) if cls in ids else 0
