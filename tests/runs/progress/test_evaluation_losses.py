"""The difference of evaluation losses on the same rows, with its interval."""

from __future__ import annotations

import random

import pytest

from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.evaluation_losses import (
    EvaluationLosses,
    interval,
    read_evaluation_losses,
    write_evaluation_losses,
)

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


def test_a_damaged_file_has_no_losses(tmp_path):
    run = RunFolder(tmp_path)
    losses = EvaluationLosses("abc", BEFORE, lowered(0.1))
    write_evaluation_losses(run, losses)
    assert read_evaluation_losses(run) == losses
    for text in ('{"before": 3}', '{"rows": "abc", "before": [[1]], "after": []}', "[", "[]"):
        run.evaluation_losses.write_text(text)
        assert read_evaluation_losses(run) == EvaluationLosses()
