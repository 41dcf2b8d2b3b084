"""How long rows are in tokens, what of them is cut, and what is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from modelforge.modeling.tokenize.counters import Counts
from modelforge.modeling.tokenize.encode import IGNORED, Dialect, Encoded
from modelforge.modeling.tokenize.options import Manner
from modelforge.modeling.tokenize.preference import Pair, encode_judged, encode_pair
from modelforge.modeling.tokenize.qa import encode_context
from modelforge.modeling.tokenize.seq2seq import encode_summary

BATCH = 64
MOST_BARS = 24


def measure(
    rows: Iterable[dict[str, Any]],
    dialect: Dialect,
    manner: Manner,
    progress: Callable[..., None],
    most: int,
) -> dict[str, Any]:
    """Return the lengths of rows before any cut as a histogram of [end, rows], and shares.

    `truncated` is the share of rows longer than `max_length`, `trained` that of trained tokens.
    """
    counts = Counts()
    lengths: list[int] = []
    stream = iter(rows)
    while batch := list(islice(stream, BATCH)):
        for row, found in _encoded(batch, dialect, manner):
            lengths.append(len(found.ids))
            counts.take(row, found, manner)
        progress(done=len(lengths), total=most, text="Turning rows into tokens")
    count = len(lengths)
    ordered = sorted(lengths)
    return {
        "rows": count,
        "histogram": histogram(ordered),
        "mean": round(sum(lengths) / count, 1) if count else 0,
        "median": ordered[count // 2] if count else 0,
        "longest": ordered[-1] if count else 0,
        "max_length": manner.max_length,
        "truncated": sum(n > manner.max_length for n in lengths) / count if count else 0.0,
        "dropped": counts.dropped / count if count else 0.0,
        "trained": counts.trained / counts.read if counts.read else 0.0,
        "trained_tokens": counts.trained,
        "all_tokens": counts.read,
        "notes": [
            {"code": code, "text": text}
            for code, text in (*dialect.notes, *counts.notes(manner, dialect))
        ],
    }


def histogram(lengths: list[int]) -> list[list[int]]:
    """Return bars as [end, rows]: each counts rows up to its end and beyond the one before."""
    if not lengths:
        return []
    width = 1
    while width * MOST_BARS < max(lengths):
        width *= 2
    bars = [0] * (-(-max(lengths) // width) or 1)
    for length in lengths:
        bars[max(0, length - 1) // width] += 1
    return [[(place + 1) * width, count] for place, count in enumerate(bars)]


def _encoded(
    rows: list[dict[str, Any]], dialect: Dialect, manner: Manner
) -> Iterator[tuple[dict[str, Any], Encoded]]:
    if manner.method == "seq2seq":
        yield from ((row, encode_summary(row, dialect, manner) or Encoded([], [])) for row in rows)
        return
    rows = manner.said(rows)
    plain = [row for row in rows if "messages" in row or "text" in row]
    yield from zip(plain, manner.read(plain, dialect), strict=True)
    nothing = Encoded([], [])
    for row in rows:
        if "chosen" in row:
            # A pair is as long as the longer of the two sequences that are compared.
            pair = encode_pair(row, dialect)
            yield row, _longer(pair) if pair else nothing
        elif "completion" in row:
            yield row, encode_judged(row, dialect) or nothing
        elif "context" in row:
            windows = encode_context(row, dialect.tokenizer, manner.max_length)
            yield from ((row, window) for window in windows)


def _longer(pair: Pair) -> Encoded:
    answer = pair.chosen if len(pair.chosen) >= len(pair.rejected) else pair.rejected
    masked = [IGNORED] * len(pair.prompt)
    return Encoded([*pair.prompt, *answer], [*masked, *answer])
