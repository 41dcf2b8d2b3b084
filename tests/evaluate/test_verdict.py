"""The first sentences of a report: better or not, answers or style, run or prompt."""

from __future__ import annotations

import numpy as np
import pytest

from modelforge.evaluate.contestants import BASE, PROMPTED, TUNED
from modelforge.evaluate.exchange import Gain, Learned
from modelforge.evaluate.metrics import METRICS, Measured
from modelforge.evaluate.verdict import against_prompt_entry, verdict_entry

pytestmark = pytest.mark.torch
ROWS = 60


def _losses(mean: float, seed: int, rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(seed).gamma(8, mean / 8, rows)


def _measured(base: float, tuned: float, prompted: float | None = None, rows: int = ROWS):
    values = {BASE: _losses(base, 1, rows), TUNED: _losses(tuned, 2, rows)}
    if prompted is not None:
        values[PROMPTED] = _losses(prompted, 3, rows)
    return Measured(METRICS["loss"], values)


def _learned(kind) -> Learned:
    return Learned(kind, "", ROWS, Gain(0.5, 0.0001, 0.1), (3.0, 1.0), (3.5, 1.5))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("answers", "."),
        ("style", ", in style alone: no right answer was learned that shows."),
        ("too-few-rows", "; the rows are too few to tell answers from style."),
    ],
)
def test_the_verdict_says_whether_answers_or_style_got_better(kind, sentence):
    entry = verdict_entry(_measured(3.0, 1.0), _learned(kind), 0)

    assert (entry["kind"], entry["sentence"]) == ("better", f"Better than the base model{sentence}")


def test_a_worse_run_and_one_without_a_difference_are_said_so():
    worse = verdict_entry(_measured(1.0, 3.0), _learned("nothing"), 0)
    noise = np.random.default_rng(4).normal(0, 0.05, ROWS)
    same = Measured(METRICS["loss"], {BASE: _losses(2.0, 1), TUNED: _losses(2.0, 1) + noise})
    equal = verdict_entry(same, None, 0)

    assert (worse["kind"], worse["sentence"]) == ("worse", "Worse than the base model.")
    assert equal["kind"] == "no-difference"


def test_fewer_than_20_rows_are_always_too_few():
    entry = verdict_entry(_measured(5.0, 0.5, rows=19), None, 0)

    assert entry["kind"] == "too-few-rows"
    assert (
        entry["sentence"] == "Too few rows to tell: 19 evaluation rows. About 20 would settle it."
    )


def test_rows_are_counted_against_the_prompt():
    entry = against_prompt_entry(_measured(4.0, 1.0, prompted=2.0))

    assert entry is not None
    assert entry["better"] + entry["worse"] + entry["equal"] == ROWS
    assert entry["better"] > entry["worse"]
    assert entry["p"] < 0.05
