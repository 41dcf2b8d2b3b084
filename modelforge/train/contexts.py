"""Questions about a context as tokens, with the answer marked where it stands."""

from __future__ import annotations

from typing import Any

from modelforge.train.tokens import IGNORED, Encoded

# Windows overlap, so that an answer across the edge of one stands whole in the next.
OVERLAP = 128
LEAST = 16


def encode_context(row: dict[str, Any], tokenizer: Any, max_length: int) -> list[Encoded]:
    """Return question and context in windows of `max_length`; labels mark the first answer.

    None where the question leaves no room for the context.
    """
    asked = tokenizer(row["question"], add_special_tokens=False, verbose=False)["input_ids"]
    room = max_length - len(asked) - tokenizer.num_special_tokens_to_add(pair=True)
    if room < LEAST:
        return []
    found = tokenizer(
        row["question"],
        row["context"],
        truncation="only_second",
        max_length=max_length,
        stride=min(OVERLAP, room // 4),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    span = _span(row)
    return [
        Encoded(ids, _labels(ids, offsets, found.sequence_ids(window), span))
        for window, (ids, offsets) in enumerate(
            zip(found["input_ids"], found["offset_mapping"], strict=True)
        )
    ]


def _span(row: dict[str, Any]) -> tuple[int, int] | None:
    if not row["answers"]:
        return None
    first = row["answers"][0]
    return first["start"], first["start"] + len(first["text"])


def _labels(
    ids: list[int],
    offsets: list[tuple[int, int]],
    sides: list[int | None],
    span: tuple[int, int] | None,
) -> list[int]:
    """Mark the tokens of the answer; a window that has only a part of it marks none."""
    inside = [
        span is not None and side == 1 and begin < span[1] and end > span[0]
        for (begin, end), side in zip(offsets, sides, strict=True)
    ]
    if span is None or not any(inside):
        return [IGNORED] * len(ids)
    places = [offset for offset, is_in in zip(offsets, inside, strict=True) if is_in]
    if places[0][0] > span[0] or places[-1][1] < span[1]:
        return [IGNORED] * len(ids)
    pairs = zip(ids, inside, strict=True)
    return [token if is_in else IGNORED for token, is_in in pairs]
