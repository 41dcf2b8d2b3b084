"""How many copies of each row are trained on, by the samples and the weight of a source.

`samples` takes that many rows, drawn evenly from all usable rows; the order of the file stays. The
whole part of `weight` repeats every row, and its fraction is the share of rows that come once more
(2: every row twice, 0.5: half of the rows, 1.25: all rows and a quarter of them again). At least
one row is left. The share of a source in the data is its number of rows after both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

# The number of copies of a row by its index among the usable rows.
CopiesPerRow = Callable[[int], int]


def count_rows_taken(rows: int, samples: int | None, weight: float) -> int:
    """Return the number of rows that a source gives, including copies."""
    taken = min(rows, samples) if samples else rows
    repeats, extra = _repeats(taken, weight)
    return taken * repeats + extra


def copies_per_row(
    rows: int, samples: int | None, weight: float, seed: int, source_index: int
) -> CopiesPerRow:
    """Return a function from the index of a usable row to its number of copies.

    `source_index` makes sources with the same seed draw different rows.
    """
    if (samples is None or samples >= rows) and weight == 1:
        return lambda _index: 1
    draw = random.Random(f"{seed}:{source_index}")
    taken: Sequence[int] = range(rows)
    if samples and samples < rows:
        taken = draw.sample(taken, samples)
    repeats, extra = _repeats(len(taken), weight)
    once_more = frozenset(draw.sample(taken, extra))
    members = frozenset(taken) if len(taken) < rows else range(rows)

    def copies(index: int) -> int:
        if index not in members:
            return 0
        return repeats + 1 if index in once_more else repeats

    return copies


def _repeats(rows: int, weight: float) -> tuple[int, int]:
    """Return how often every row is repeated, and how many rows come once more."""
    repeats = int(weight)
    extra = round(rows * (weight - repeats))
    if repeats == 0 and rows:
        extra = max(1, extra)
    return repeats, extra
