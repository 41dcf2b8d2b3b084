"""The time of the evaluation at the end of a run is in its plan, and grows with the work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.preflight import preflight
from modelforge.preflight.evaluation_time import EvaluationWork, evaluation_seconds
from tests.preflight.contexts import STARTER, make_context

FEW = EvaluationWork(40, 100.0, prompted=False, answers=False, general=False)


def test_only_a_run_that_is_evaluated_at_its_end_has_the_time_of_it():
    report = preflight(make_context(evaluation={"report": True}))
    assert report.evaluation_seconds > 60
    without = preflight(make_context())
    assert without.evaluation_seconds is None
    assert without.seconds == report.seconds


@pytest.mark.parametrize(
    "more",
    [{"rows": 80}, {"row_tokens": 200.0}, {"prompted": True}, {"answers": True}, {"general": True},
     {"tasks": 1}],
)  # fmt: skip
def test_more_work_takes_longer(more):
    less = FEW.seconds(STARTER, 100.0)
    assert replace(FEW, **more).seconds(STARTER, 100.0) > less
    assert FEW.seconds(STARTER, 200.0) < less


def test_earlier_evaluations_correct_the_time():
    context = make_context(evaluation={"report": True})
    corrected = replace(context, evaluation_time_factor=3.0)
    assert evaluation_seconds(corrected) == pytest.approx(3 * evaluation_seconds(context))


def test_the_time_is_unknown_without_data_or_model():
    context = make_context(evaluation={"report": True})
    assert evaluation_seconds(replace(context, summary=None)) is None
    assert evaluation_seconds(replace(context, model=None)) is None


def test_answers_to_questions_about_a_passage_are_not_generated():
    whole = replace(FEW, answers=True)
    assert whole.generated == 40 * 100 * 0.5 * 2
    assert FEW.generated == 0
    assert FEW.read == 40 * 100 * (2 + 6)
