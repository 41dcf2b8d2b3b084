"""Paired comparisons: conclusions, p-values worked out by hand, power and false conclusions."""

import math
import subprocess
import sys

import numpy as np
import pytest

from modelforge.diagnosis.comparison import (
    FEWEST_ROWS,
    compare,
    count_rows,
    effect_worth_having,
    sign_flip_test,
    sign_test,
)


def losses(n: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    base = draw.gamma(4, 0.5, n)
    return base, base + draw.normal(shift, 0.2, n)


@pytest.mark.parametrize(
    ("shift", "direction", "kind"),
    [
        (-0.4, "lower", "better"),
        (0.4, "lower", "worse"),
        (0.4, "higher", "better"),
        (-0.4, "higher", "worse"),
        (0.0, "lower", "no-difference"),
    ],
)
def test_the_kind_of_a_difference(shift, direction, kind):
    base, tuned = losses(200, shift)
    result = compare(base, tuned, direction=direction, worth_having=0.1)
    assert result.kind == kind
    assert result.value == pytest.approx(float((tuned - base).mean()))
    assert result.interval == [result.low, result.high]
    assert (result.rows, result.rows_needed) == (200, None)


def test_fewer_than_20_rows_are_always_too_few():
    base, tuned = losses(FEWEST_ROWS - 1, -1.0)
    result = compare(base, tuned, direction="lower", worth_having=0.1)
    assert result.high < 0
    assert (result.kind, result.rows, result.rows_needed) == ("too-few-rows", 19, 20)
    base, tuned = losses(FEWEST_ROWS, -1.0)
    assert compare(base, tuned, direction="lower", worth_having=0.1).kind == "better"


def test_a_wide_interval_is_too_few_rows_and_names_how_many_are_needed():
    base, tuned = losses(40, 0.0)
    result = compare(base, tuned, direction="lower", worth_having=0.02)
    assert result.kind == "too-few-rows"
    assert 300 < result.rows_needed < 600  # (half width 0.06 to 0.07 / 0.02)^2 * 40
    # With that many rows an effect of that size is shown.
    base, tuned = losses(result.rows_needed * 4, -0.02)
    assert compare(base, tuned, direction="lower", worth_having=0.02).kind == "better"


@pytest.mark.parametrize(("rows", "kind"), [(20, "too-few-rows"), (60, "no-difference")])
def test_scores_that_are_all_equal_have_an_interval(rows, kind):
    result = compare(
        [1.0] * rows, [1.0] * rows, direction="higher", worth_having=0.05, bounded=True
    )
    assert (result.value, result.p, result.kind) == (0, 1, kind)
    assert result.low < 0 < result.high


@pytest.mark.parametrize(("base", "tuned", "value"), [([], [], None), ([1.0], [3.0], 2.0)])
def test_no_row_and_one_row(base, tuned, value):
    result = compare(base, tuned, direction="higher", worth_having=1)
    assert (result.value, result.interval, result.p) == (value, None, None)
    assert (result.kind, result.rows_needed) == ("too-few-rows", 20)


def test_rows_without_a_finite_value_are_left_out():
    base, tuned = losses(30, -0.5)
    extended = compare(
        [*base, math.nan, 1.0], [*tuned, 1.0, math.inf], direction="lower", worth_having=0.1
    )
    assert extended == compare(base, tuned, direction="lower", worth_having=0.1)
    with pytest.raises(ValueError, match="3 values cannot be paired with 2"):
        compare([1, 2, 3], [1, 2], direction="lower", worth_having=0.1)


def test_weights_make_the_difference_that_of_the_tokens():
    base, tuned, tokens = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.5, 2.0]), [10, 20, 70]
    result = compare(base, tuned, direction="lower", worth_having=0.1, weights=tokens)
    assert result.value == pytest.approx((10 * 1 + 20 * 0.5 - 70 * 1) / 100)


def test_the_permutation_test_equals_values_worked_out_by_hand():
    # Of the 8 patterns of signs of 1, 2, 3, two have a sum of size 6.
    assert sign_flip_test([1, 2, 3]) == 2 / 8
    # Sums of ±1 ±2 ±3 of size 4 or more: ±6, ±4.
    assert sign_flip_test([-1, 2, 3]) == 4 / 8
    assert sign_flip_test([0, 0]) == 1
    # Differences of shares: the exact test of McNemar, a fair coin that falls 9 to 1.
    assert sign_flip_test([1] * 9 + [-1] + [0] * 30) == pytest.approx(sign_test(9, 1))
    assert sign_test(9, 1) == pytest.approx(2 * 11 / 1024)
    assert (sign_test(0, 0), sign_test(5, 5), sign_test(0, 1)) == (1, 1, 1)


def test_random_patterns_agree_with_the_exact_test():
    differences = [1] * 22 + [-1] * 9
    assert sign_flip_test(differences) == pytest.approx(sign_test(22, 9), abs=0.01)
    assert sign_flip_test(differences) == sign_flip_test(differences)
    assert sign_flip_test(np.full(3000, 0.1)) == pytest.approx(1e-4, abs=1e-5)


def test_equal_models_are_rarely_different_and_better_ones_are_shown():
    draw = np.random.default_rng(3)
    shown = {0.0: 0, -0.15: 0}
    for _ in range(300):
        base = draw.gamma(4, 0.5, 40)
        for shift in shown:
            tuned = base + draw.normal(shift, 0.2, 40)
            result = compare(base, tuned, direction="lower", worth_having=0.1)
            shown[shift] += result.kind in ("better", "worse")
    assert shown[0.0] / 300 <= 0.07
    assert shown[-0.15] / 300 >= 0.95


@pytest.mark.parametrize("n", [20, 50, 200])
def test_the_interval_of_a_difference_of_shares_covers_the_truth(n):
    draw = np.random.default_rng(4)
    hits = 0
    for _ in range(400):
        chance = draw.random(n)
        base, tuned = (chance < 0.5), (chance > 0.3) & (chance < 0.9)  # 40 % up, 30 % down
        result = compare(base, tuned, direction="higher", worth_having=0.05, bounded=True)
        hits += result.low <= 0.1 <= result.high
    assert hits / 400 >= 0.93


def test_counts_of_rows():
    counts = count_rows([1, 2, 3, 4], [2, 1, 3, 9], direction="higher")
    assert counts == (2, 1, 1, 1.0)
    assert count_rows([1, 2, 3, 4], [2, 1, 3, 9], direction="lower")[:3] == (1, 2, 1)


def test_an_effect_worth_having():
    assert effect_worth_having("score", [0.1, 0.2]) == 0.05
    assert effect_worth_having("share", []) == 0.05
    assert effect_worth_having("nats", [2.0, 4.0, math.nan]) == pytest.approx(0.15)
    assert effect_worth_having("nats", [-2.0, 2.0]) == pytest.approx(0.1)
    assert effect_worth_having("ratio", []) == 0


def test_a_comparison_needs_no_torch():
    script = "import sys, modelforge.diagnosis.comparison; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
