"""Paired comparison of two models on the same rows: difference, interval, p-value, conclusion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelforge.diagnosis.intervals import (
    CONFIDENCE,
    FEWEST_VALUES,
    Interval,
    finite,
    mean_interval,
    ratio_terms,
    t_quantile,
)

Direction = Literal["higher", "lower"]
Unit = Literal["nats", "ratio", "share", "score"]
DifferenceKind = Literal["better", "worse", "no-difference", "too-few-rows"]

# With fewer rows there is no conclusion, whatever they show.
FEWEST_ROWS = 20
# Effects that are worth having: a share of the base model's loss; a difference of shares, scores.
RELATIVE_EFFECT, ABSOLUTE_EFFECT = 0.05, 0.05
# Up to this number of rows that differ, every pattern of signs is tried, otherwise random ones.
_MOST_EXACT, _RANDOM_FLIPS, _CELLS = 14, 10_000, 4_000_000
_SEED = 20


@dataclass(frozen=True)
class Difference:
    """Mean difference tuned minus base on the same rows.

    `low` and `high` are the ends of its interval, `p` is the p-value of the two-sided permutation
    test; they and `value` are None where too few rows have a value. `rows_needed` is about the
    number of rows that would show an effect worth having; None where there are enough.
    """

    value: float | None
    low: float | None
    high: float | None
    kind: DifferenceKind
    p: float | None
    rows: int
    rows_needed: int | None = None

    @property
    def interval(self) -> list[float] | None:
        """The ends of the interval as in a report."""
        return None if self.low is None or self.high is None else [self.low, self.high]


class RowCounts(NamedTuple):
    """Number of rows on which a model is better, worse and equal; p-value of the sign test."""

    better: int
    worse: int
    equal: int
    p: float


def effect_worth_having(unit: Unit, base: ArrayLike) -> float:
    """Return the smallest difference that is worth having, in the unit of the metric.

    Args:
        unit: "nats" and "ratio" have no fixed scale: 5 % of the mean size of the base model's
            values. Shares and scores from 0 to 1: 0.05.
        base: array of shape (rows,), the base model's values.
    """
    if unit in ("share", "score"):
        return ABSOLUTE_EFFECT
    values = finite(base)
    return RELATIVE_EFFECT * float(np.abs(values).mean()) if len(values) else 0.0


def compare(
    base: ArrayLike,
    tuned: ArrayLike,
    *,
    direction: Direction,
    worth_having: float,
    weights: ArrayLike | None = None,
    bounded: bool = False,
    confidence: float = CONFIDENCE,
) -> Difference:
    """Compare the values of two models on the same rows.

    "better" and "worse" need an interval without zero and a p-value below 1 - `confidence`.
    "too-few-rows": fewer than 20 rows, or an interval with zero that is so wide that a difference
    of `worth_having` would not exclude zero. Rows with a value that is not finite are left out.

    Args:
        base: array of shape (rows,).
        tuned: array of shape (rows,), in the same order; ValueError if it is not.
        direction: whether a higher or a lower value is better.
        worth_having: smallest difference that matters; see `effect_worth_having`.
        weights: array of shape (rows,), such as numbers of tokens, for a weighted mean.
        bounded: whether the values are from 0 to 1, so that many may be equal.
        confidence: of the interval and the test.
    """
    differences = _paired(base, tuned, weights)
    rows = len(differences)
    if rows < FEWEST_VALUES:
        return _without_interval(differences)
    if bounded:
        interval = _bounded_interval(differences, confidence)
    else:
        interval = mean_interval(differences, confidence) or Interval(-math.inf, math.inf)
    value, p = float(differences.mean()), sign_flip_test(differences)
    is_shown = not interval.contains(0.0) and p <= 1 - confidence
    needed = _rows_needed(rows, interval, math.inf if is_shown else worth_having)
    kind: DifferenceKind = "too-few-rows" if needed else "no-difference"
    if is_shown and not needed:
        kind = "better" if (value > 0) == (direction == "higher") else "worse"
    return Difference(value, interval.low, interval.high, kind, p, rows, needed)


def sign_flip_test(differences: ArrayLike) -> float:
    """Return the two-sided p-value of "differences are symmetric around zero".

    Exact for up to 14 differences other than zero, otherwise from 10,000 random patterns of signs;
    the same differences always give the same value.
    """
    data = finite(differences)
    sizes = np.abs(data[data != 0])
    if not len(sizes):
        return 1.0
    least = abs(float(data.sum())) - 1e-9 * float(sizes.sum())
    if len(sizes) <= _MOST_EXACT:
        patterns = np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1
        return float((np.abs((2 * patterns - 1) @ sizes) >= least).mean())
    return (_random_flips(sizes, least) + 1) / (_RANDOM_FLIPS + 1)


def count_rows(
    other: ArrayLike, tuned: ArrayLike, *, direction: Direction, tolerance: float = 1e-9
) -> RowCounts:
    """Count the rows on which `tuned` is better than `other`, with an exact sign test.

    Args:
        other: array of shape (rows,).
        tuned: array of shape (rows,), in the same order.
        direction: whether a higher or a lower value is better.
        tolerance: differences up to this size are equal.
    """
    differences = _paired(other, tuned, None) * (1 if direction == "higher" else -1)
    better = int((differences > tolerance).sum())
    worse = int((differences < -tolerance).sum())
    return RowCounts(better, worse, len(differences) - better - worse, sign_test(better, worse))


def sign_test(better: int, worse: int) -> float:
    """Return the two-sided p-value of a fair coin that falls `better` to `worse`."""
    n, fewer = better + worse, min(better, worse)
    tail = sum(math.comb(n, count) for count in range(fewer + 1))
    return min(1.0, 2 * tail / 2**n) if n else 1.0


def _paired(base: ArrayLike, tuned: ArrayLike, weights: ArrayLike | None) -> NDArray[np.float64]:
    """Return the differences of the rows; their mean is the (weighted) difference."""
    first, second = np.asarray(base, np.float64), np.asarray(tuned, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{first.size} values cannot be paired with {second.size}")
    if weights is None:
        return finite(second - first)
    scale = np.asarray(weights, np.float64)
    return ratio_terms((second - first) * scale, scale)


def _without_interval(differences: NDArray[np.float64]) -> Difference:
    value = float(differences[0]) if len(differences) else None
    return Difference(value, None, None, "too-few-rows", None, len(differences), FEWEST_ROWS)


def _bounded_interval(differences: NDArray[np.float64], confidence: float) -> Interval:
    """Return the interval of a mean difference of scores from 0 to 1, of which many may be equal.

    As Agresti and Min for pairs: two more rows, one of which is zero and the other one half the
    largest difference up, half down. So rows that all agree do not give an interval of width zero.
    """
    largest = float(np.abs(differences).max()) or 1.0
    n = len(differences) + 2
    mean = float(differences.sum()) / n
    variance = (float((differences**2).sum()) + largest**2) / n - mean**2
    half = t_quantile(confidence, len(differences) - 1) * math.sqrt(max(variance, 0.0) / n)
    return Interval(max(-1.0, mean - half), min(1.0, mean + half))


def _random_flips(sizes: NDArray[np.float64], least: float) -> int:
    """Return how many of the random patterns of signs give a sum of at least that size."""
    generator = np.random.default_rng(_SEED)
    batch = max(1, _CELLS // len(sizes))
    count = 0
    for start in range(0, _RANDOM_FLIPS, batch):
        shape = (min(batch, _RANDOM_FLIPS - start), len(sizes))
        signs = generator.integers(0, 2, shape, np.int8).astype(np.float64) * 2 - 1
        count += int((np.abs(signs @ sizes) >= least).sum())
    return count


def _rows_needed(rows: int, interval: Interval, worth_having: float) -> int | None:
    """Return about how many rows would show `worth_having`, or None where these are enough."""
    half = interval.half_width
    if half <= worth_having:
        return FEWEST_ROWS if rows < FEWEST_ROWS else None
    is_known = math.isfinite(half) and worth_having > 0
    needed = math.ceil(rows * (half / worth_having) ** 2) if is_known else 2 * rows
    return max(FEWEST_ROWS, rows + 1, needed)
