"""Trend of a noisy series: its level at the start and the end, and whether they differ.

The test is a two-sample z-test of the means of the first and the last part of the series. The
noise is estimated from successive differences (von Neumann), which a slow trend hardly affects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

FEWEST_VALUES = 6
# Threshold of the z-score, in standard errors; about 95 % confidence.
SIGNIFICANT_Z = 2.0


@dataclass(frozen=True)
class Trend:
    """Mean at the start and at the end, and the z-score of their difference."""

    start: float
    end: float
    z: float

    @property
    def is_significant(self) -> bool:
        """Whether the difference is unlikely to be noise."""
        return self.z >= SIGNIFICANT_Z

    @property
    def relative_change(self) -> float:
        """Absolute change as a share of the larger of the two levels."""
        return abs(self.end - self.start) / max(abs(self.start), abs(self.end), 1e-12)

    def describe(self, tolerance: float) -> str:
        """Return the trend in words: `fell from 2.80 to 1.10`, `stayed near 1.00`."""
        if self.relative_change <= tolerance:
            return f"stayed near {self.start:.2f}"
        verb = "rose" if self.end > self.start else "fell"
        return f"{verb} from {self.start:.2f} to {self.end:.2f}"


def trend(values: Sequence[float], fewest: int = FEWEST_VALUES, parts: int = 10) -> Trend | None:
    """Return the trend of a series, or None with fewer than `fewest` finite values.

    The level at either end is the mean of one of `parts` parts, and of at least three values.
    """
    values = [value for value in values if math.isfinite(value)]
    if len(values) < fewest:
        return None
    size = min(max(3, len(values) // parts), max(1, len(values) // 2))
    start, end = fmean(values[:size]), fmean(values[-size:])
    noise = math.sqrt(fmean((after - before) ** 2 for before, after in pairwise(values)) / 2)
    standard_error = max(noise * (2 / size) ** 0.5, 1e-12)
    return Trend(start, end, abs(end - start) / standard_error)
