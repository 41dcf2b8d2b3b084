"""Which losses of evaluation batches are kept, and that they are those of the same rows."""

from __future__ import annotations

import pytest
from datasets import Dataset

from modelforge.runs.layout import RunFolder
from modelforge.runs.progress.evaluation_losses import mean, read_evaluation_losses
from modelforge.train.growing.stage import gain_event
from modelforge.train.trainer.evaluated import EvaluatedBatches, digest

BEFORE = [(20.0 + number, 10) for number in range(10)]


def lowered(by):
    return [(loss - 10 * by, 10) for loss, _ in BEFORE]


def batches_of(folder, **more):
    """Return those of a stage that begins."""
    return EvaluatedBatches(
        RunFolder(folder), before=read_evaluation_losses(RunFolder(folder)).before, **more
    )


def test_the_losses_before_growing_are_kept_for_later_stages(tmp_path):
    first = batches_of(tmp_path)
    first.add(0, BEFORE)
    first.add(5, lowered(0.1))
    first.add(9, lowered(0.05))
    event = gain_event(first, 1)
    assert event.before - event.after == pytest.approx(0.1)
    second = batches_of(tmp_path)
    assert gain_event(second, 2) is None
    second.add(0, lowered(0.2))
    second.add(4, lowered(0.3))
    assert gain_event(second, 2).after == pytest.approx(mean(BEFORE) - 0.3)
    resumed = batches_of(tmp_path)
    resumed.restore(second.state())
    assert gain_event(resumed, 2) == gain_event(second, 2)


def test_the_run_folder_has_the_losses_of_the_weights_that_are_kept(tmp_path):
    for keeps_best, kept in ((True, lowered(0.3)), (False, lowered(0.1))):
        evaluated = batches_of(tmp_path, keeps_best=keeps_best, rows="abc")
        evaluated.add(3, lowered(0.3))
        evaluated.add(6, lowered(0.1))
        losses = read_evaluation_losses(RunFolder(tmp_path))
        assert (losses.after, losses.rows) == (kept, "abc")


def test_rows_differ_by_a_token_and_by_what_is_trained():
    rows = [
        {"input_ids": [1, 2, 3], "completion_mask": [0, 1, 1]},
        {"input_ids": [4], "completion_mask": [1]},
    ]
    same = digest(Dataset.from_list(rows))
    assert digest(Dataset.from_list([dict(row, text="x") for row in rows])) == same
    for change in ({"input_ids": [1, 2, 5]}, {"completion_mask": [1, 1, 1]}):
        assert digest(Dataset.from_list([rows[0] | change, rows[1]])) != same
    assert digest(Dataset.from_list(rows[::-1])) != same
