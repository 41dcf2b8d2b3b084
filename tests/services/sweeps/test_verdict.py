"""The best trial against the user's own settings, on reports made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from modelforge.services.sweeps.verdict import compare_rows, sentence

ROWS = 40


def report(values, *, name="loss", direction="lower", unit="nats", weights=None):
    about = {"name": name, "label": name.replace("_", " ").capitalize(), "unit": unit}
    rows = {"row_values": list(values), "row_weights": weights}
    return {"metrics": [{**about, "direction": direction, **rows}, {"name": "perplexity"}]}


def values(mean):
    return mean + np.random.default_rng(1).normal(0, 0.05, ROWS)


def test_a_lower_loss_on_the_same_rows_is_better():
    compared = compare_rows(report(values(2.0)), report(values(1.5)))
    assert compared.difference.kind == "better"
    assert compared.difference.rows == ROWS
    text = sentence(compared, 2.0, 1.5)
    assert "its loss is lower by 0.500 (95 % interval 0.500 to 0.500)" in text
    assert text.endswith("Use the best trial.")


def test_a_higher_margin_is_better():
    margins = {"name": "reward_margin", "direction": "higher"}
    compared = compare_rows(report(values(1.0), **margins), report(values(1.6), **margins))
    assert compared.difference.kind == "better"
    assert "its reward margin is higher by 0.600" in sentence(compared, 0.7, 0.6)


def test_weights_of_the_rows_count():
    weights = [10.0] + [1.0] * (ROWS - 1)
    own, best = values(2.0), values(2.0)
    best[0] -= 1.0
    compared = compare_rows(report(own, weights=weights), report(best, weights=weights))
    assert compared.difference.value == pytest.approx(-10 / (10 + ROWS - 1))


def test_a_difference_that_may_be_chance_is_none():
    own = values(2.0)
    best = own + np.random.default_rng(2).normal(-0.01, 0.5, ROWS)
    text = sentence(compare_rows(report(own), report(best)), 2.0, 1.99)
    assert "No difference shown" in text
    assert text.endswith("Keep your settings.")


def test_rows_without_a_value_are_left_out():
    own, best = list(values(2.0)), list(values(1.5))
    own[3] = None
    assert compare_rows(report(own), report(best)).difference.rows == ROWS - 1


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"metrics": []},
        report(values(2.0)[:-1]),
        report(values(2.0), name="f1"),
        report(values(2.0), weights=[1.0] * ROWS),
    ],
)
def test_other_rows_are_not_compared(other):
    assert compare_rows(report(values(2.0)), other) is None
    assert "could not be compared" in sentence(None, 2.0, 1.9)
