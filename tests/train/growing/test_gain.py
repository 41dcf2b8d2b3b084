"""How much growing gives: the difference of losses on the same rows, with its interval."""

from __future__ import annotations

import random

import pytest

from modelforge.runs.layout import RunFolder
from modelforge.train.growing.gain import EvaluatedBatches, interval, mean

BEFORE = [(20.0 + number, 10) for number in range(10)]


def lowered(by, noise=0.0):
    chance = random.Random(3)
    return [(loss - 10 * by + noise * chance.uniform(-1, 1), 10) for loss, _ in BEFORE]


def test_the_same_gain_of_all_rows_is_certain():
    assert interval(BEFORE, lowered(0.2)) == pytest.approx((0.2, 0.2))


def test_the_interval_widens_with_differences_between_rows():
    low, high = interval(BEFORE, lowered(0.2, noise=5.0))
    assert low < 0.2 < high
    narrow = interval(BEFORE * 10, lowered(0.2, noise=5.0) * 10)
    assert high - low > 2.5 * (narrow[1] - narrow[0])


def test_few_batches_have_no_interval():
    assert interval(BEFORE[:7], lowered(0.2)[:7]) == (None, None)


def test_an_interval_covers_no_gain_in_95_of_100_cases():
    chance, covered = random.Random(5), 0
    for _ in range(400):
        after = [(loss + chance.gauss(0, 2), tokens) for loss, tokens in BEFORE * 4]
        low, high = interval(BEFORE * 4, after)
        covered += low <= 0 <= high
    assert 0.91 < covered / 400 < 0.98


def test_the_losses_before_growing_are_kept_for_later_stages(tmp_path):
    run = RunFolder(tmp_path)
    first = EvaluatedBatches.of(run)
    first.add(0, BEFORE)
    first.add(5, lowered(0.1))
    first.add(9, lowered(0.05))
    event = first.event(1)
    assert event.before - event.after == pytest.approx(0.1)
    second = EvaluatedBatches.of(run)
    assert second.event(2) is None
    second.add(4, lowered(0.3))
    assert second.event(2).after == pytest.approx(mean(BEFORE) - 0.3)
    resumed = EvaluatedBatches.of(run)
    resumed.restore(second.state())
    assert resumed.event(2) == second.event(2)
