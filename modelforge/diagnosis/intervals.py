"""Confidence intervals of a share, of a mean score and of a mean loss, with NumPy alone.

The coverage of every interval is tested by simulation. A percentile bootstrap is not used: with 20
rows it covers the truth in about 90 % of the draws instead of 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
FEWEST_VALUES = 2
# Accuracy and largest number of terms of the continued fraction, and steps of the bisection.
_ACCURACY, _MOST_TERMS, _BISECTIONS = 1e-13, 400, 60

Values = Sequence[float] | NDArray[np.float64]


class Interval(NamedTuple):
    """Two ends, the lower first; both belong to the interval."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the distance between the ends."""
        return (self.high - self.low) / 2

    def contains(self, value: float) -> bool:
        """Return whether a value lies in the interval."""
        return self.low <= value <= self.high


def share_interval(right: int, n: int, confidence: float = CONFIDENCE) -> Interval | None:
    """Return Jeffreys' interval of a proportion, or None of no rows.

    Args:
        right: number of rows that count, from 0 to `n`.
        n: number of rows.
        confidence: probability that the interval covers the truth, between 0 and 1.

    Raises:
        ValueError: `right` is not from 0 to `n`.
    """
    if not 0 <= right <= n:
        raise ValueError(f"{right} of {n} rows is not a share")
    return _jeffreys(right, n, confidence) if n else None


def score_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the interval of the mean of scores from 0 to 1, or None of fewer than two.

    Scores that are all 0 or 1 are a proportion. Others get Wilson's interval with the number of
    rows with which a proportion of the same mean would have the same variance of its mean.

    Raises:
        ValueError: a score is outside 0 to 1.
    """
    scores = finite(values)
    if len(scores) < FEWEST_VALUES:
        return None
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError("a score must be from 0 to 1")
    if np.isin(scores, (0.0, 1.0)).all():
        return share_interval(int(scores.sum()), len(scores), confidence)
    mean, variance = float(scores.mean()), float(scores.var(ddof=1))
    most = mean * (1 - mean)
    n = max(len(scores), len(scores) * most / max(variance, 1e-9))
    z = t_quantile(confidence, len(scores) - 1)
    scale = 1 + z * z / n
    middle = (mean + z * z / (2 * n)) / scale
    half = z * math.sqrt(most / n + z * z / (4 * n * n)) / scale
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the interval of the mean of values of any size, such as losses.

    It is None of fewer than two values. Hall's transformation removes the skewness of the
    t statistic, which losses of rows have. With its quantiles of the t distribution it covered
    better than with those of a bootstrap.
    """
    data = finite(values)
    n = len(data)
    if n < FEWEST_VALUES:
        return None
    mean = float(data.mean())
    centred = data - mean
    deviation = math.sqrt(float((centred**2).mean()))
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean)
    skewness = float((centred**3).mean()) / deviation**3
    # The t statistic here has the population's divisor n and no square root of n.
    limit = t_quantile(confidence, n - 1) / math.sqrt(n - 1)
    upper, lower = (_remove_skewness(end, skewness, n) for end in (-limit, limit))
    return Interval(mean - deviation * lower, mean - deviation * upper)


def ratio_interval(
    sums: ArrayLike, weights: ArrayLike, confidence: float = CONFIDENCE
) -> Interval | None:
    """Return the interval of sum / weight over all rows, or None of fewer than two rows.

    Args:
        sums: array of shape (rows,), for example the summed loss of the tokens of each row.
        weights: array of shape (rows,), positive, for example the number of tokens of each row.
        confidence: probability that the interval covers the truth, between 0 and 1.
    """
    return mean_interval(ratio_terms(sums, weights), confidence)


def ratio_terms(sums: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """Return one value per row whose mean is sum / weight over all rows.

    Their spread is that of the ratio to first order (linearization), with the residual of each row
    as if the row had not been part of the ratio. Rows with a value that is not finite, or without
    weight, are left out.
    """
    top, bottom = np.asarray(sums, np.float64), np.asarray(weights, np.float64)
    used = np.isfinite(top) & np.isfinite(bottom) & (bottom > 0)
    top, bottom = top[used], bottom[used]
    if len(top) < FEWEST_VALUES:
        return top / bottom
    ratio = top.sum() / bottom.sum()
    residuals = (top - ratio * bottom) / bottom.mean() / (1 - bottom / bottom.sum())
    return np.asarray(ratio + residuals - residuals.mean(), np.float64)


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """Return the finite values as an array of shape (n,)."""
    data = np.asarray(values, np.float64).ravel()
    return data[np.isfinite(data)]


@lru_cache(maxsize=4096)
def t_quantile(confidence: float, freedom: int) -> float:
    """Return t with P(-t < T < t) = `confidence` for Student's T with `freedom` degrees."""
    x = beta_quantile(confidence, 0.5, freedom / 2)
    return math.sqrt(freedom * x / max(1 - x, 1e-300))


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return x from 0 to 1 with P(X < x) = `probability` for X distributed as Beta(a, b)."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if beta_distribution(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_distribution(x: float, a: float, b: float) -> float:
    """Return P(X < x) for X distributed as Beta(a, b), by its continued fraction."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_distribution(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log1p(-x)
    fraction, upper, lower = 1.0, 1.0, 0.0
    for index in range(_MOST_TERMS):
        term = _beta_term(index, x, a, b)
        lower = 1 / _not_zero(1 + term * lower)
        upper = _not_zero(1 + term / upper)
        fraction *= upper * lower
        if abs(1 - upper * lower) < _ACCURACY:
            break
    return math.exp(log_front) / a * (fraction - 1)


def _beta_term(index: int, x: float, a: float, b: float) -> float:
    half = index // 2
    if index == 0:
        return 1.0
    if index % 2 == 0:
        return half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
    return -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))


def _not_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


@lru_cache(maxsize=4096)
def _jeffreys(right: int, n: int, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    a, b = right + 0.5, n - right + 0.5
    low = 0.0 if right == 0 else beta_quantile(tail, a, b)
    high = 1.0 if right == n else beta_quantile(1 - tail, a, b)
    return Interval(low, high)


def _remove_skewness(value: float, skewness: float, n: int) -> float:
    """Return t with t + g t^2 / 3 + g^2 t^3 / 27 + g / (6 n) = `value`, where g is `skewness`."""
    if abs(skewness) < 1e-9:
        return value
    inner = 1 + skewness * (value - skewness / (6 * n))
    return float(3 / skewness * (np.cbrt(inner) - 1))
