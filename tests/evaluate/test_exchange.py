"""Answers against style, on losses made by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.torch


def decide(right, exchanged):
    from modelforge.evaluate.exchange import decide_learning

    return decide_learning(right, exchanged)


def cases(answers):
    from modelforge.evaluate.cases import Case

    return [Case(n, {}, f"question {n}", "", answer=list(ids)) for n, ids in enumerate(answers, 1)]


def noise(rows, seed, scale=0.3):
    return np.random.default_rng(seed).normal(0, scale, rows)


def test_a_gap_that_grows_means_answers():
    rows = 60
    base, tuned = 4 + noise(rows, 1), 2 + noise(rows, 2)
    learned = decide((base, tuned), (4.1 + noise(rows, 3), 2.6 + noise(rows, 4)))
    assert learned.kind == "answers"
    assert learned.rows == rows
    assert learned.as_dict()["right"] == {"base": base.mean(), "tuned": tuned.mean()}


def test_a_loss_that_falls_for_every_answer_alike_means_style():
    learned = decide((4 + noise(60, 1), 2 + noise(60, 2)), (4.1 + noise(60, 3), 2.0 + noise(60, 4)))
    assert learned.kind == "style"
    assert "Nothing shows that the answers were learned" in learned.sentence


def test_a_growth_that_may_be_chance_needs_more_rows():
    learned = decide(
        (4 + noise(24, 1, 1.0), 2 + noise(24, 2, 1.0)),
        (4 + noise(24, 3, 1.0), 2.3 + noise(24, 4, 1.0)),
    )
    assert learned.kind == "too-few-rows"
    assert "may be chance" in learned.sentence
    few = decide(([4.0] * 19, [2.0] * 19), ([4.0] * 19, [3.5] * 19))
    assert few.kind == "too-few-rows"
    assert "20 are the least" in few.sentence


def test_a_loss_that_does_not_fall_means_nothing():
    base = 4 + noise(60, 1)
    assert decide((base, base + noise(60, 2)), (base, base)).kind == "nothing"


def test_runs_on_exchanged_answers_are_almost_never_said_to_have_learned_them():
    from modelforge.evaluate.exchange import decide_learning

    draw = np.random.default_rng(0)
    said = 0
    for _ in range(300):
        # The tuned model finds each answer likelier by an amount that is the answer's alone.
        gain, base = draw.normal(2, 0.5, 40), draw.normal(4, 0.5, 40)
        other, partner = draw.normal(4, 0.5, 40), np.roll(gain, 3)
        right = base - gain + draw.normal(0, 0.3, 40)
        wrong = other - partner + draw.normal(0, 0.3, 40)
        said += decide_learning((base, right), (other, wrong)).kind == "answers"
    assert said <= 6


def test_every_answer_is_given_to_one_other_question_of_similar_length():
    from modelforge.evaluate.exchange import BLOCK, exchange_partners

    draw = np.random.default_rng(1)
    answers = [[n, *draw.integers(0, 9, draw.integers(1, 40))] for n in range(50)]
    partners = exchange_partners(cases(answers))
    assert None not in partners
    assert sorted(partners) == list(range(50))
    assert all(partner != at for at, partner in enumerate(partners))
    sizes = sorted(range(50), key=lambda at: len(answers[at]))
    places = {index: place for place, index in enumerate(sizes)}
    assert all(abs(places[at] - places[other]) < 3 * BLOCK for at, other in enumerate(partners))
    assert partners == exchange_partners(cases(answers))


def test_equal_answers_are_not_exchanged_with_each_other():
    from modelforge.evaluate.exchange import exchange_partners

    answers = [[7]] * 5 + [[8]] * 3 + [[]]
    partners = exchange_partners(cases(answers))
    assert partners[8] is None
    for at, other in enumerate(partners):
        assert other is None or answers[at] != answers[other]
    assert sum(other is not None for other in partners) >= 6
    assert exchange_partners(cases([[7]] * 5)) == [None] * 5
