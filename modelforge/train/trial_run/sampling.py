"""What a rehearsal plays: which rows, and how the time of a batch follows from its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from modelforge.train.rng import preserve_rng
from modelforge.train.trainer.private import train_order

# Batches added up for one update of a rehearsal; a run's own may be many, each like the others.
ADDED_UP = 2
WORST, USUAL = 2, 5


@dataclass(frozen=True)
class Program:
    """What is played: the rows in their order, and the sizes of the batches they make.

    An epoch of the run has so many `batches`; `mean` is the size of one, and `useful` what of it
    is no padding. `rows` is None where the run's own rows and updates are played as they are.
    """

    rows: list[int] | None
    sizes: list[float]
    mean: float
    worst: int
    usual: int
    added_up: int
    batches: int = 0
    useful: float = 0.0


def program(trainer: Any, *, generates: bool) -> Program:
    """Choose the rows: the longest for the peak, then batches of every size that the run has."""
    args, rows = trainer.args, trainer.train_dataset
    if generates and not hasattr(trainer, "batch_splits"):
        # Answers are written in the updates themselves: two of the run's own are played.
        return Program(None, [], 0.0, 1, 1, args.gradient_accumulation_steps)
    size = args.per_device_train_batch_size
    added_up = min(ADDED_UP, args.gradient_accumulation_steps)
    counted = row_lengths(rows, None)
    with preserve_rng():
        order = train_order(trainer, rows)
    batches = list(chunks(order, size))
    flat = getattr(trainer, "padding_free", False)

    def cost(batch: Sequence[int]) -> float:
        found = [counted[row] for row in batch]
        return float(sum(found) if flat else max(found) * len(found))

    costs = [cost(batch) for batch in batches]
    longest = sorted(order, key=counted.__getitem__, reverse=True)
    worst = [longest[at % len(longest)] for at in range(size * added_up)]
    by_cost = [batch for _cost, batch in sorted(zip(costs, batches, strict=True))]
    usual = _filled(spread(by_cost, USUAL * added_up), USUAL * added_up, size)
    played = [*(worst * WORST), *(row for batch in usual for row in batch)]
    sizes = [cost(each) for each in chunks(played, size)]
    mean, useful = sum(costs) / len(costs), sum(counted) / len(costs)
    return Program(played, sizes, mean, WORST, USUAL, added_up, len(batches), useful)


def line(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Return the seconds of a batch and of each token in it, by least squares, neither negative."""
    many = len(sizes)
    if not many:
        return 0.0, 0.0
    mean, mean_s = sum(sizes) / many, sum(seconds) / many
    spread = sum((size - mean) ** 2 for size in sizes)
    both = sum((a - mean) * (b - mean_s) for a, b in zip(sizes, seconds, strict=True))
    token = max(0.0, both / spread) if spread else 0.0
    each = mean_s - token * mean
    return (each, token) if each >= 0 else (0.0, mean_s / mean if mean else 0.0)


def row_lengths(rows: Any, most: int | None) -> list[int]:
    """Return how many tokens each row makes the model read at once."""
    table = rows.with_format("arrow")[:]
    names = set(table.column_names)

    def many(name: str) -> list[int]:
        return [int(n or 0) for n in pc.list_value_length(table[name]).to_pylist()]

    sides = [name for name in ("chosen_input_ids", "rejected_input_ids") if name in names]
    sides = sides or [name for name in ("chosen_ids", "rejected_ids") if name in names]
    if sides:
        found = [max(pair) for pair in zip(*(many(name) for name in sides), strict=True)]
    elif "input_ids" in names:
        found = many("input_ids")
    elif "completion_ids" in names:
        found = many("completion_ids")
    else:
        return [0] * len(rows)
    if "prompt_ids" in names:
        found = [a + b for a, b in zip(found, many("prompt_ids"), strict=True)]
    return [min(length, most) for length in found] if most else found


def chunks(rows: Sequence[int], size: int) -> list[list[int]]:
    """Return rows in batches of a size."""
    return [list(rows[at : at + size]) for at in range(0, len(rows), size)]


def spread(things: Sequence[Any], many: int) -> list[Any]:
    """Return so many of them, evenly over their order."""
    count = min(many, len(things))
    return [things[int((at + 0.5) * len(things) / count)] for at in range(count)]


def _filled(batches: list[list[int]], many: int, size: int) -> list[list[int]]:
    """Return so many whole batches, again from the first where there are too few."""
    found = [batches[at % len(batches)] for at in range(many)]
    return [[batch[at % len(batch)] for at in range(size)] for batch in found]
