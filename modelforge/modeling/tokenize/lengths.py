"""How long rows are in tokens, what of them is cut, and what is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from modelforge.modeling.tokenize.counters import TokenizeCounts
from modelforge.modeling.tokenize.encode import IGNORE_INDEX, TokenizedExample
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import PreferencePair, encode_pair, encode_unpaired
from modelforge.modeling.tokenize.qa import encode_qa
from modelforge.modeling.tokenize.seq2seq import encode_seq2seq
from modelforge.modeling.tokenize.template import ChatTemplate

BATCH = 64
MOST_BARS = 24


def measure_lengths(
    rows: Iterable[dict[str, Any]],
    dialect: ChatTemplate,
    manner: TokenizeOptions,
    progress: Callable[..., None],
    most: int,
) -> dict[str, Any]:
    """Return the lengths of rows before any cut as a histogram of [end, rows], and shares.

    `truncated` is the share of rows longer than `max_length`, `trained` that of trained tokens.
    """
    counts = TokenizeCounts()
    lengths: list[int] = []
    stream = iter(rows)
    while batch := list(islice(stream, BATCH)):
        for row, found in _encoded(batch, dialect, manner):
            lengths.append(len(found.input_ids))
            counts.add(row, found, manner)
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
        "trained": counts.trained_tokens / counts.all_tokens if counts.all_tokens else 0.0,
        "trained_tokens": counts.trained_tokens,
        "all_tokens": counts.all_tokens,
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
    rows: list[dict[str, Any]], dialect: ChatTemplate, manner: TokenizeOptions
) -> Iterator[tuple[dict[str, Any], TokenizedExample]]:
    if manner.head == "seq2seq":
        yield from (
            (row, encode_seq2seq(row, dialect, manner) or TokenizedExample([], [])) for row in rows
        )
        return
    rows = manner.prepare(rows)
    plain = [row for row in rows if "messages" in row or "text" in row]
    yield from zip(plain, manner.encode(plain, dialect), strict=True)
    nothing = TokenizedExample([], [])
    for row in rows:
        if "chosen" in row:
            # A pair is as long as the longer of the two sequences that are compared.
            pair = encode_pair(row, dialect)
            yield row, _longer(pair) if pair else nothing
        elif "completion" in row:
            yield row, encode_unpaired(row, dialect) or nothing
        elif "context" in row:
            windows = encode_qa(row, dialect.tokenizer, manner.max_length)
            yield from ((row, window) for window in windows)


def _longer(pair: PreferencePair) -> TokenizedExample:
    answer = pair.chosen if len(pair.chosen) >= len(pair.rejected) else pair.rejected
    masked = [IGNORE_INDEX] * len(pair.prompt)
    return TokenizedExample([*pair.prompt, *answer], [*masked, *answer])
