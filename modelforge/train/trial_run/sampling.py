"""Which batches a trial run trains on, and the time of a batch as a function of its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression
from typing import Any

import pyarrow.compute as pc

from modelforge.train.trainer.private import train_order
from modelforge.train.trainer.state import preserve_rng

# Batches per step of a trial run; a step of the real run may have more of the same.
MAX_ACCUMULATION = 2
WORST_STEPS, USUAL_STEPS = 2, 5


@dataclass(frozen=True)
class BatchSample:
    """The batches of a trial run.

    Attributes:
        rows: Row indices in training order; None to train on the run's own batches.
        sizes: Size of each sampled batch in tokens, padding included.
        mean_size: Mean size of a batch of the real run, in tokens.
        worst_steps: Steps on the longest rows.
        usual_steps: Steps on usual rows.
        accumulation: Batches per step.
        epoch_batches: Batches of an epoch of the real run.
        mean_tokens: Mean tokens of such a batch without padding.
    """

    rows: list[int] | None
    sizes: list[float]
    mean_size: float
    worst_steps: int
    usual_steps: int
    accumulation: int
    epoch_batches: int = 0
    mean_tokens: float = 0.0


def sample_batches(trainer: Any, *, generates: bool) -> BatchSample:
    """Choose the longest rows for the peak, then batches of all sizes that the run has."""
    args, rows = trainer.args, trainer.train_dataset
    if generates and not hasattr(trainer, "batch_splits"):
        # The steps of an online method generate their own completions.
        return BatchSample(None, [], 0.0, 1, 1, args.gradient_accumulation_steps)
    size = args.per_device_train_batch_size
    accumulation = min(MAX_ACCUMULATION, args.gradient_accumulation_steps)
    lengths = row_lengths(rows, None)
    with preserve_rng():
        order = train_order(trainer, rows)
    is_padding_free = getattr(trainer, "padding_free", False)

    def batch_size(batch: Sequence[int]) -> float:
        tokens = [lengths[row] for row in batch]
        return float(sum(tokens) if is_padding_free else max(tokens) * len(tokens))

    batches = chunks(order, size)
    sizes = [batch_size(batch) for batch in batches]
    longest = sorted(order, key=lengths.__getitem__, reverse=True)
    worst = [longest[index % len(longest)] for index in range(size * accumulation)]
    by_size = [batch for _size, batch in sorted(zip(sizes, batches, strict=True))]
    count = USUAL_STEPS * accumulation
    usual = _filled(evenly_spaced(by_size, count), count, size)
    sampled = [*(worst * WORST_STEPS), *(row for batch in usual for row in batch)]
    return BatchSample(
        sampled,
        [batch_size(batch) for batch in chunks(sampled, size)],
        sum(sizes) / len(sizes),
        WORST_STEPS,
        USUAL_STEPS,
        accumulation,
        len(batches),
        sum(lengths) / len(sizes),
    )


def fit_line(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Return seconds per batch and per token by least squares, neither negative."""
    if not sizes:
        return 0.0, 0.0
    slope = linear_regression(sizes, seconds).slope if len(set(sizes)) > 1 else 0.0
    mean, mean_s, per_token = fmean(sizes), fmean(seconds), max(0.0, slope)
    per_batch = mean_s - per_token * mean
    return (per_batch, per_token) if per_batch >= 0 else (0.0, mean_s / mean if mean else 0.0)


def row_lengths(rows: Any, limit: int | None) -> list[int]:
    """Return the tokens that the model reads of each row, at most `limit`."""
    if hasattr(rows, "token_counts"):
        counts: list[int] = rows.token_counts()
        return counts
    table = rows.with_format("arrow")[:]
    names = set(table.column_names)

    def count(name: str) -> list[int]:
        return [int(n or 0) for n in pc.list_value_length(table[name]).to_pylist()]

    sides = [name for name in ("chosen_input_ids", "rejected_input_ids") if name in names]
    sides = sides or [name for name in ("chosen_ids", "rejected_ids") if name in names]
    if sides:
        lengths = [max(pair) for pair in zip(*(count(name) for name in sides), strict=True)]
    elif "input_ids" in names:
        lengths = count("input_ids")
    elif "completion_ids" in names:
        lengths = count("completion_ids")
    else:
        return [0] * len(rows)
    if "prompt_ids" in names:
        lengths = [a + b for a, b in zip(lengths, count("prompt_ids"), strict=True)]
    return [min(length, limit) for length in lengths] if limit else lengths


def chunks(rows: Sequence[int], size: int) -> list[list[int]]:
    """Return the rows in batches of `size`."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def evenly_spaced(items: Sequence[Any], count: int) -> list[Any]:
    """Return `count` items at evenly spaced positions, or all if there are fewer."""
    count = min(count, len(items))
    return [items[int((index + 0.5) * len(items) / count)] for index in range(count)]


def _filled(batches: list[list[int]], count: int, size: int) -> list[list[int]]:
    """Return `count` batches of `size` rows, repeating batches and rows where there are fewer."""
    repeated = [batches[index % len(batches)] for index in range(count)]
    return [[batch[index % len(batch)] for index in range(size)] for batch in repeated]
