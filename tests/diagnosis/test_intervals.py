"""Intervals: their coverage in simulated draws, and values worked out by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator

from modelforge.diagnosis.intervals import (
    Interval,
    beta_distribution,
    beta_quantile,
    mean_interval,
    ratio_interval,
    ratio_terms,
    score_interval,
    share_interval,
    t_quantile,
)

DRAWS = 1_000
SIZES = (20, 50, 200)
# Mean losses of rows: skewed to the right. The mean of gamma(4, 0.5) is 2.
LOSSES = {
    "gamma": (lambda draw, n: draw.gamma(4, 0.5, n), 2.0),
    "lognormal": (lambda draw, n: draw.lognormal(0, 0.5, n), math.exp(0.125)),
    "exponential": (lambda draw, n: draw.exponential(1, n), 1.0),
}


def f1_of_rows(draw: Generator, n: int) -> np.ndarray:
    """35 % of the answers share no word with the reference, 25 % are right, the rest in between."""
    chance = draw.random(n)
    return np.where(chance < 0.35, 0.0, np.where(chance < 0.6, 1.0, draw.beta(2, 2, n)))


def f1_of_words(draw: Generator, n: int) -> np.ndarray:
    """Answers and references of six words, of which a number of words is the same."""
    return draw.binomial(6, 0.45, n) / 6


def coverage(
    interval: Callable[[np.ndarray], Interval | None],
    draws: Callable[[Generator, int], np.ndarray],
    truth: float,
    n: int,
) -> float:
    generator = np.random.default_rng(16)
    hits = 0
    for _ in range(DRAWS):
        made = interval(draws(generator, n))
        hits += made is not None and made.contains(truth)
    return hits / DRAWS


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", LOSSES)
def test_the_interval_of_a_mean_loss_covers_the_truth(name, n):
    draws, truth = LOSSES[name]
    assert 0.93 <= coverage(mean_interval, draws, truth, n) <= 0.97


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("truth", [0.1, 0.5, 0.9])
def test_the_interval_of_a_proportion_covers_the_truth(truth, n):
    def interval(right):
        return share_interval(int(right), n)

    assert 0.93 <= coverage(interval, lambda draw, n: draw.binomial(n, truth), truth, n) <= 0.97
    # The coverage of all draws there could be, without chance.
    exact = sum(
        math.comb(n, right) * truth**right * (1 - truth) ** (n - right)
        for right in range(n + 1)
        if share_interval(right, n).contains(truth)
    )
    assert 0.93 <= exact <= 0.97


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("draws", "truth"), [(f1_of_rows, 0.45), (f1_of_words, 0.45)])
def test_the_interval_of_a_mean_f1_covers_the_truth(draws, truth, n):
    assert 0.93 <= coverage(score_interval, draws, truth, n) <= 0.97


def test_a_percentile_bootstrap_would_not_cover_the_truth():
    """The reason for the other intervals, and a check that the bounds above can fail."""
    plan = np.random.default_rng(1).integers(0, 20, (DRAWS, 20))

    def percentiles(values):
        return Interval(*np.quantile(values[plan].mean(axis=1), [0.025, 0.975]))

    assert coverage(percentiles, *LOSSES["exponential"], 20) < 0.93


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Quantiles of Beta(right + 1/2, n - right + 1/2) from published tables (Brown, Cai, DasGupta).
    [(0, 10, 0.0, 0.217), (1, 10, 0.011, 0.381), (5, 10, 0.224, 0.776), (9, 10, 0.619, 0.989)],
)
def test_a_share_equals_the_published_jeffreys_interval(right, n, low, high):
    assert share_interval(right, n) == pytest.approx((low, high), abs=6e-4)


def test_a_share_of_all_or_no_rows_reaches_the_end():
    assert share_interval(20, 20).high == 1
    assert share_interval(0, 20).low == 0
    assert share_interval(0, 0) is None
    with pytest.raises(ValueError, match="21 of 20 rows"):
        share_interval(21, 20)


@pytest.mark.parametrize(
    ("freedom", "confidence", "quantile"),
    [
        (1, 0.95, 12.706),
        (4, 0.95, 2.776),
        (19, 0.95, 2.093),
        (19, 0.99, 2.861),
        (1000, 0.95, 1.962),
    ],
)
def test_quantiles_of_t_equal_the_published_table(freedom, confidence, quantile):
    assert t_quantile(confidence, freedom) == pytest.approx(quantile, abs=6e-4)


def test_the_beta_distribution_equals_closed_forms():
    assert beta_distribution(0.3, 1, 1) == pytest.approx(0.3)
    assert beta_distribution(0.5, 2, 3) == pytest.approx(11 / 16)  # 12 * integral of x (1-x)^2
    assert beta_distribution(0.9, 4, 1) == pytest.approx(0.9**4)
    assert (beta_distribution(0, 2, 2), beta_distribution(1, 2, 2)) == (0, 1)
    assert beta_quantile(0.25, 1, 1) == pytest.approx(0.25)
    assert beta_quantile(0.5, 1000.5, 1000.5) == pytest.approx(0.5)


def test_the_mean_of_symmetric_values_has_the_interval_of_students_t():
    # Mean 3, standard deviation sqrt(2.5), 4 degrees of freedom: 3 ± 2.776 * sqrt(2.5 / 5).
    assert mean_interval([1, 2, 3, 4, 5]) == pytest.approx((1.037, 4.963), abs=1e-3)


def test_the_interval_of_skewed_losses_reaches_further_to_the_right():
    values = [*[1.0] * 15, 1.5, 2, 3, 5, 9]
    low, high = mean_interval(values)
    mean = sum(values) / len(values)
    assert low < mean < high
    assert high - mean > 1.5 * (mean - low)
    mirrored = mean_interval([-value for value in values])
    assert mirrored == pytest.approx((-high, -low))


@pytest.mark.parametrize("interval", [mean_interval, score_interval])
def test_values_that_are_not_finite_and_too_few_values(interval):
    assert interval([]) is None
    assert interval([0.5, math.nan]) is None
    assert interval([0.2, 0.5, math.inf, 0.9]) == interval([0.2, 0.5, 0.9])


def test_equal_values():
    assert mean_interval([2.0] * 30) == (2, 2)
    low, high = score_interval([1.0] * 20)
    assert 0.85 < low < 0.9
    assert high == 1
    low, high = score_interval([0.5] * 20)
    assert low == pytest.approx(0.5, abs=1e-3)
    assert high == pytest.approx(0.5, abs=1e-3)


def test_scores_that_are_0_or_1_are_a_share():
    assert score_interval([0, 1, 1, 1]) == share_interval(3, 4)
    with pytest.raises(ValueError, match="from 0 to 1"):
        score_interval([0.5, 1.2])


def test_more_confidence_is_a_wider_interval():
    values = np.random.default_rng(2).random(40)
    for interval in (mean_interval, score_interval):
        wide, narrow = interval(values, 0.99), interval(values, 0.9)
        assert wide.low < narrow.low < narrow.high < wide.high


def test_a_ratio_weighs_rows_by_their_tokens():
    sums, tokens = np.array([2.0, 30.0, 8.0, 12.0]), np.array([1, 20, 4, 5])
    low, high = ratio_interval(sums, tokens)
    assert low < 52 / 30 < high
    assert ratio_terms(sums, tokens).mean() == pytest.approx(52 / 30)
    # With equal weights the ratio is the mean; the residuals are larger by n / (n - 1).
    same, mean = ratio_interval(sums, [3, 3, 3, 3]), mean_interval(sums / 3)
    assert same.half_width == pytest.approx(mean.half_width * 4 / 3)
    assert ratio_interval([1, 2, 3], [0, 0, 1]) is None


def test_the_interval_of_the_loss_per_token_covers_the_truth():
    def interval(pairs):
        return ratio_interval(pairs[0], pairs[1])

    def draws(generator, n):
        tokens = generator.integers(5, 60, n)
        return generator.gamma(4, 0.5, n) * tokens, tokens

    for n in SIZES:
        assert 0.93 <= coverage(interval, draws, 2.0, n) <= 0.97
