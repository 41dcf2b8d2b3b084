"""Planted rows: which are exchanged, and how they are looked for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from modelforge.runs.row_losses import RowLosses

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import planted_rows

    yield planted_rows
    sys.modules.pop("planted_rows", None)


@pytest.mark.parametrize("sample", ["units", "captain", "support"])
def test_a_twentieth_of_the_rows_get_the_answer_of_another_row(bench, sample):
    rows, before = bench.read_sample(sample), bench.read_sample(sample)
    planted = bench.plant(rows, seed=1)
    changed = {index for index, row in enumerate(rows) if row != before[index]}
    assert len(planted) == round(0.05 * len(rows))
    assert changed <= planted
    assert len(changed) >= 0.8 * len(planted)
    answers = [sorted(bench.answer_of(row) for row in part) for part in (rows, before)]
    assert answers[0] == answers[1]


def test_the_worst_tenth_has_the_highest_losses_of_an_epoch_or_of_all(bench):
    count = 20
    after = np.arange(count, dtype=float)
    after[3] = np.nan
    before = 50.0 + np.arange(count)
    losses = RowLosses(
        rows=np.arange(count) + 5, before=before, after=after, mean=before[::-1],
        tokens=np.ones(count, dtype=np.int64), share=np.ones(count) / count,
    )  # fmt: skip
    assert bench.worst_rows(losses, "last") == {5 + 3, 5 + 19}
    assert bench.worst_rows(losses, "first") == {5 + 18, 5 + 19}
    assert bench.worst_rows(losses, "mean") == {5, 5 + 1}
