"""LoRA and a growing model are evaluated on the same rows, batch by batch."""

from __future__ import annotations

import pytest

from modelforge.runs.progress.evaluation_losses import mean, read_evaluation_losses
from tests.train.growing.test_growing import events_of, grow

pytestmark = pytest.mark.torch


def test_the_losses_of_both_are_of_the_same_rows(bench):
    grown, lora = grow(bench), bench.prepare(max_steps=3, eval_split=0.25, eval_steps=3)
    found = []
    for run in (grown, lora):
        events = bench.work(run)
        assert events[-1].kind == "finished", events[-1]
        losses = read_evaluation_losses(run)
        best = min(event.loss for event in events_of(events, "eval") if event.step)
        assert mean(losses.after) == pytest.approx(best, rel=1e-5)
        found.append(losses)
    ours, theirs = found
    assert ours.before
    assert ours.rows == theirs.rows
    assert [rows for _, rows in ours.after] == [rows for _, rows in theirs.after]
    other = bench.prepare(max_steps=3, eval_split=0.25, eval_steps=3, trainer={"seed": 9})
    bench.work(other)
    assert read_evaluation_losses(other).rows != ours.rows
