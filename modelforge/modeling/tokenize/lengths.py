"""Measure the lengths of rows in tokens, with the shares that are truncated and trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from modelforge.modeling.tokenize.counters import TokenizeCounts
from modelforge.modeling.tokenize.encode import TokenizedExample
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import encode_pair, encode_unpaired
from modelforge.modeling.tokenize.qa import encode_qa
from modelforge.modeling.tokenize.seq2seq import encode_seq2seq
from modelforge.modeling.tokenize.template import ChatTemplate

BATCH_SIZE = 64
MAX_BARS = 24
_EMPTY = TokenizedExample([], [])


def measure_lengths(
    rows: Iterable[dict[str, Any]],
    template: ChatTemplate,
    options: TokenizeOptions,
    progress: Callable[..., None],
    limit: int,
) -> dict[str, Any]:
    """Return statistics of the lengths before truncation, as plain data.

    `histogram` is a list of [end, rows]; `truncated`, `dropped` and `trained` are shares from 0 to
    1, the last one of tokens. `limit` is the expected number of rows, for progress.
    """
    counts = TokenizeCounts()
    lengths: list[int] = []
    stream = iter(rows)
    while batch := list(islice(stream, BATCH_SIZE)):
        for row, example in _encode(batch, template, options):
            lengths.append(len(example.input_ids))
            counts.add(row, example, options)
        progress(done=len(lengths), total=limit, text="Tokenizing rows")
    count = len(lengths)
    ordered = sorted(lengths)
    too_long = sum(length > options.max_length for length in lengths)
    return {
        "rows": count,
        "histogram": histogram(ordered),
        "mean": round(sum(lengths) / count, 1) if count else 0,
        "median": ordered[count // 2] if count else 0,
        "longest": ordered[-1] if count else 0,
        "max_length": options.max_length,
        "truncated": too_long / count if count else 0.0,
        "dropped": counts.dropped / count if count else 0.0,
        "trained": counts.trained_tokens / counts.all_tokens if counts.all_tokens else 0.0,
        "trained_tokens": counts.trained_tokens,
        "all_tokens": counts.all_tokens,
        "notes": [
            {"code": code, "text": text}
            for code, text in (*template.notes, *counts.notes(options, template))
        ],
    }


def histogram(lengths: list[int]) -> list[list[int]]:
    """Return bars as [end, count] of equal width, a power of two; each includes its end."""
    if not lengths:
        return []
    width = 1
    while width * MAX_BARS < max(lengths):
        width *= 2
    bars = [0] * (-(-max(lengths) // width) or 1)
    for length in lengths:
        bars[max(0, length - 1) // width] += 1
    return [[(index + 1) * width, count] for index, count in enumerate(bars)]


def _encode(
    rows: list[dict[str, Any]], template: ChatTemplate, options: TokenizeOptions
) -> Iterator[tuple[dict[str, Any], TokenizedExample]]:
    if options.head == "seq2seq":
        yield from ((row, encode_seq2seq(row, template, options) or _EMPTY) for row in rows)
        return
    rows = options.prepare(rows)
    plain = [row for row in rows if "messages" in row or "text" in row]
    yield from zip(plain, options.encode(plain, template), strict=True)
    for row in rows:
        if "chosen" in row:
            pair = encode_pair(row, template)
            sides = pair.sides if pair else [_EMPTY]
            yield row, max(sides, key=lambda side: len(side.input_ids))
        elif "completion" in row:
            yield row, encode_unpaired(row, template) or _EMPTY
        elif "context" in row:
            windows = encode_qa(row, template.tokenizer, options.max_length)
            yield from ((row, window) for window in windows)
