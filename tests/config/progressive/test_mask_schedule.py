"""Shares of masked tokens by stage and time step."""

from __future__ import annotations

import pytest

from modelforge.config.progressive.mask_schedule import (
    MaskBy,
    Masking,
    MaskSchedule,
    default_fractions,
    mask_problems,
)

RISING = (0.1, 0.2, 0.2, 0.9)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (MaskSchedule.LINEAR, [0, 0.25, 0.5, 0.75, 1]),
        (MaskSchedule.EXPONENTIAL, [0, 0.1653, 0.3775, 0.6501, 1]),
        (MaskSchedule.COSINE, [0, 0.1464, 0.5, 0.8536, 1]),
    ],
)
def test_a_schedule_rises_by_its_formula(schedule, values):
    assert [schedule.at(part / 4) for part in range(5)] == pytest.approx(values, abs=5e-5)
    masking = Masking(least=0.2, most=0.6, schedule=schedule)
    shares = [masking.of_stage(stage, 5)[0] for stage in range(5)]
    assert shares == pytest.approx([0.2 + 0.4 * value for value in values], abs=5e-5)


def test_without_time_steps_the_shares_are_those_of_the_document():
    masking = Masking()
    assert masking.of_stage(0, 3) == pytest.approx((0.15,))
    assert masking.of_stage(2, 3) == pytest.approx((0.9,))
    # The joint stage has the share of the last one; a single stage begins.
    assert masking.of_stage(3, 3) == pytest.approx((0.9,))
    assert masking.of_stage(0, 1) == pytest.approx((0.15,))


def test_a_time_step_is_that_of_the_stage_or_any_of_the_batch():
    assert [Masking(MaskBy.DEPTH, RISING).of_stage(stage, 5) for stage in range(5)] == [
        (0.1,),
        (0.2,),
        (0.2,),
        (0.9,),
        (0.9,),
    ]
    assert Masking(MaskBy.INPUT, RISING).of_stage(0, 5) == RISING


def test_default_shares_are_those_of_the_code_and_of_the_guide():
    assert default_fractions() == (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85)
    guide = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
    assert default_fractions(12) == guide
    assert default_fractions(3) == (0.15, 0.5, 0.85)
    assert default_fractions(1) == (0.15,)
    for steps in range(1, 20):
        assert mask_problems(Masking(MaskBy.INPUT, default_fractions(steps)), steps) == []


@pytest.mark.parametrize(
    ("masking", "steps", "what"),
    [
        (Masking(MaskBy.DEPTH, (0.1, 0.3, 0.2)), 3, "0.2 follows 0.3"),
        (Masking(MaskBy.INPUT, (0.1, 1.2)), 2, "1.2 is not a share"),
        (Masking(MaskBy.INPUT, RISING), 8, "It has 4 values"),
        (Masking(least=0.5, most=0.4), 8, "0.5 is above progressive.mask_max, 0.4"),
        (Masking(least=-0.1), 8, "-0.1 is not a share"),
        (Masking(most=1.1), 8, "1.1 is not a share"),
    ],
)
def test_shares_out_of_order_or_range_are_refused(masking, steps, what):
    (problem,) = mask_problems(masking, steps)
    assert problem.what.startswith(what)


def test_shares_that_are_not_used_are_not_checked():
    assert mask_problems(Masking(fractions=(3.0,)), 8) == []
    assert mask_problems(Masking(MaskBy.DEPTH, RISING, least=5), 4) == []
