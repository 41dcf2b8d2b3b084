"""Where a noisy series went: its level at the start and at the end, and whether that is clear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

FEWEST = 6
# Two means differ clearly when they lie this many standard errors apart.
CLEARLY = 2.0


@dataclass(frozen=True)
class Drift:
    """The level at the start and at the end, and by how many standard errors they differ."""

    start: float
    end: float
    errors: float

    @property
    def is_clear(self) -> bool:
        """Whether noise alone would hardly have done it."""
        return self.errors >= CLEARLY

    @property
    def share(self) -> float:
        """By how much of its level the series has moved."""
        return abs(self.end - self.start) / max(abs(self.start), abs(self.end), 1e-12)


def drift(values: Sequence[float], fewest: int = FEWEST, part: int = 10) -> Drift | None:
    """Return where a series went; None with fewer than `fewest` values that are numbers.

    The level at either end is the mean of one `part` of it, and of three values at least.
    """
    values = [value for value in values if math.isfinite(value)]
    if len(values) < fewest:
        return None
    size = min(max(3, len(values) // part), max(1, len(values) // 2))
    first, last = values[:size], values[-size:]
    start, end = fmean(first), fmean(last)
    # What neighbours differ by is noise; a trend hardly shows in it.
    noise = math.sqrt(fmean((after - before) ** 2 for before, after in pairwise(values)) / 2)
    return Drift(start, end, abs(end - start) / max(noise * (2 / size) ** 0.5, 1e-12))


def moved(way: Drift, near: float) -> str:
    """Return in words where a series went: `fell from 2.80 to 1.10`, `stayed near 1.00`."""
    if way.share <= near:
        return f"stayed near {way.start:.2f}"
    return f"{'rose' if way.end > way.start else 'fell'} from {way.start:.2f} to {way.end:.2f}"
