"""Rows that loss sets apart, from losses made by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.torch


def losses(before, after, share=None):
    from modelforge.runs.row_losses import RowLosses

    count = len(before)
    values = np.array(share) if share is not None else np.full(count, 1 / count)
    return RowLosses(
        rows=np.arange(count) * 2,
        before=np.array(before, float),
        after=np.array(after, float),
        mean=np.array(before, float),
        tokens=np.full(count, 10),
        share=values,
    )


def test_a_row_whose_loss_stays_high_was_never_learned():
    from modelforge.evaluate.worst_rows import never_learned

    found = never_learned(losses([3.9, 2.0, 1.9, 6.2, 4.0], [3.8, 0.8, 0.7, 5.7, 0.9]))
    assert found == [3, 0]
    assert never_learned(losses([3.9, 2.0], [np.nan, np.nan])) == []


def test_a_row_with_an_outstanding_share_dominates():
    from modelforge.evaluate.worst_rows import dominating_rows

    share = np.full(100, 0.0085)
    share[[7, 40]] = 0.09, 0.077
    assert dominating_rows(losses(np.ones(100), np.ones(100), share)) == [7, 40]
    assert dominating_rows(losses(np.ones(50), np.ones(50))) == []


def test_the_highest_mean_losses_are_a_tenth_of_the_rows_and_not_named_twice():
    from modelforge.evaluate.worst_rows import MOST_HIGHEST, highest_losses

    mean = np.arange(40.0)
    assert highest_losses(losses(mean, mean)) == [39, 38, 37, 36]
    assert highest_losses(losses(mean, mean), {39, 37}) == [38, 36, 35, 34]
    many = np.arange(1000.0)
    assert len(highest_losses(losses(many, many))) == MOST_HIGHEST
    assert highest_losses(losses(mean[:4], mean[:4])) == []
