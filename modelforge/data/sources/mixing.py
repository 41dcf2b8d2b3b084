"""How many copies of each row are trained on: samples and weights, drawn with the seed.

The rule. `samples` takes so many rows, drawn evenly from all usable ones; the order of the file
stays. `weight` then says how often each of them counts: its whole part repeats every row, the rest
is the share of rows that come once more (2 = every row twice, 0.5 = half of the rows, 1.25 = all
rows and a quarter of them again). Something is always left. So the share of a source among all
rows is its rows taken times its weight, over the sum of that of all sources.
"""

from __future__ import annotations

import random
from collections.abc import Callable

Copies = Callable[[int], int]


def count_rows_taken(rows: int, samples: int | None, weight: float) -> int:
    """Return how many rows a source gives, copies counted."""
    kept = min(rows, samples) if samples else rows
    whole, once_more = _repeats(kept, weight)
    return kept * whole + once_more


def copies_per_row(rows: int, samples: int | None, weight: float, seed: int, place: int) -> Copies:
    """Return how often the usable row of a number, from 0, is given.

    `place` is that of the source in its list, so that two sources are drawn from differently.
    """
    if (samples is None or samples >= rows) and weight == 1:
        return lambda _number: 1
    draw = random.Random(f"{seed}:{place}")
    kept = range(rows)
    chosen = sorted(draw.sample(kept, samples)) if samples and samples < rows else kept
    whole, once_more = _repeats(len(chosen), weight)
    again = frozenset(draw.sample(chosen, once_more))
    members = frozenset(chosen) if len(chosen) < rows else kept
    return lambda number: (whole + (number in again)) if number in members else 0


def _repeats(kept: int, weight: float) -> tuple[int, int]:
    whole = int(weight)
    once_more = round(kept * (weight - whole))
    if whole == 0 and kept:
        once_more = max(1, once_more)
    return whole, once_more
