"""The level of a series at both ends, and how many standard errors lie between them."""

from __future__ import annotations

import math

import pytest

from modelforge.diagnosis.trend import Trend, trend


def test_the_distance_is_counted_in_standard_errors_of_the_noise():
    # Successive values differ by 1, so the noise is sqrt(1 / 2); each end has three values.
    found = trend([0.0, 1.0] * 10)
    assert (found.start, found.end) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert found.z == pytest.approx((1 / 3) / math.sqrt(1 / 2 * 2 / 3))
    assert not found.is_significant


def test_a_long_series_is_compared_by_its_first_and_last_tenth():
    found = trend([2.0] * 10 + [1.5] * 80 + [1.0] * 10)
    assert (found.start, found.end) == (2.0, 1.0)
    assert found.is_significant


@pytest.mark.parametrize(("z", "is_significant"), [(1.9, False), (2.0, True)])
def test_two_standard_errors_are_significant(z, is_significant):
    assert Trend(2.0, 1.0, z).is_significant is is_significant


def test_a_change_is_relative_to_the_larger_level_however_small_it_is():
    assert Trend(0.02, 0.01, 5.0).relative_change == 0.5
    assert Trend(0.01, 0.02, 5.0).relative_change == 0.5
    assert Trend(0.0, 0.0, 0.0).relative_change == 0.0


def test_a_trend_in_words():
    assert Trend(2.8, 1.1, 9.0).describe(0.02) == "fell from 2.80 to 1.10"
    assert Trend(1.0, 1.5, 9.0).describe(0.02) == "rose from 1.00 to 1.50"
    assert Trend(1.0, 1.02, 9.0).describe(0.02) == "stayed near 1.00"


def test_too_few_finite_values_have_no_trend():
    assert trend([1.0] * 5) is None
    assert trend([1.0] * 5 + [math.nan]) is None
    assert trend([1.0] * 6) is not None
