"""Answers against style, on losses made by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

pytestmark = pytest.mark.torch


def cases(answers):
    from modelforge.evaluate.cases import Case

    return [Case(n, {}, f"question {n}", "", answer=list(ids)) for n, ids in enumerate(answers, 1)]


def exchanged(answers):
    from modelforge.evaluate.exchange import exchange_blocks

    return exchange_blocks(cases(answers))


def different(rows):
    """Blocks of so many rows, each with an answer of its own."""
    return exchanged([[n] for n in range(rows)])


def pairs_of(blocks):
    """Questions with answers, as indices of cases, in the order of the losses."""
    return [(q, a) for block in blocks for q in block.rows for a in block.rows]


def losses(blocks, seed, *, right=4.0, other=4.0, scale=0.3):
    """Losses of all pairs: those of the right answers around `right`, the rest around `other`."""
    draw = np.random.default_rng(seed)
    pairs = pairs_of(blocks)
    return np.array([right if q == a else other for q, a in pairs]) + draw.normal(
        0, scale, len(pairs)
    )


def decide(blocks, base, tuned):
    from modelforge.evaluate.exchange import decide_learning

    return decide_learning(blocks, base, tuned)


def test_a_gap_that_grows_means_answers():
    blocks = different(60)
    base, tuned = losses(blocks, 1, scale=0), losses(blocks, 2, right=2.0, other=2.6)
    learned = decide(blocks, base, tuned)
    assert learned.kind == "answers"
    assert learned.rows == 60
    entry = learned.as_dict()
    assert entry["right"]["base"] == entry["exchanged"]["base"] == 4.0
    assert entry["right"]["tuned"] == pytest.approx(2.0, abs=0.1)
    assert entry["exchanged"]["tuned"] == pytest.approx(2.6, abs=0.1)


def test_a_loss_that_falls_for_every_answer_alike_means_style():
    blocks = different(60)
    learned = decide(blocks, losses(blocks, 1), losses(blocks, 2, right=2.0, other=2.0))
    assert learned.kind == "style"
    assert "Nothing shows that the answers were learned" in learned.sentence


def test_a_growth_that_may_be_chance_needs_more_rows():
    blocks = different(24)
    tuned = losses(blocks, 4, right=2.0, other=2.3, scale=1.0)
    learned = decide(blocks, losses(blocks, 1, scale=1.0), tuned)
    assert learned.kind == "too-few-rows"
    assert "by chance they do in" in learned.sentence
    assert "these rows can only show a gain of" in learned.sentence
    few = different(19)
    learned = decide(few, losses(few, 1, scale=0), losses(few, 1, right=2.0, other=3.5, scale=0))
    assert learned.kind == "too-few-rows"
    assert "20 are the least" in learned.sentence


def test_a_small_gain_that_is_likely_by_chance_is_style_where_more_would_have_been_seen():
    blocks = different(40)
    kinds = set()
    for seed in range(30):
        tuned = losses(blocks, seed, right=1.0, other=1.0, scale=0.25)
        learned = decide(blocks, losses(blocks, 100 + seed, scale=0.25), tuned)
        assert learned.gain.least < 0.3
        if learned.gain.value >= 0.05 and learned.gain.chance >= 0.05:
            kinds.add(learned.kind)
            assert f"gained {learned.gain.value:.2f} nats per token more" in learned.sentence
    assert kinds == {"style"}


def test_rows_that_could_not_have_shown_a_tenth_of_the_fall_are_too_few():
    blocks = different(24)
    kinds = []
    for seed in range(20):
        tuned = losses(blocks, seed, right=3.0, other=3.0, scale=0.5)
        learned = decide(blocks, losses(blocks, 100 + seed, scale=0.5), tuned)
        assert learned.gain.least > 0.1
        kinds.append(learned.kind)
    assert set(kinds) <= {"too-few-rows", "answers"}
    assert kinds.count("answers") <= 1


def test_a_loss_that_does_not_fall_means_nothing():
    blocks = different(60)
    assert decide(blocks, losses(blocks, 1), losses(blocks, 2)).kind == "nothing"


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_runs_on_exchanged_answers_are_almost_never_said_to_have_learned_them(spread):
    """Questions and answers that become likelier by amounts of their own are no learned answers."""
    blocks = different(40)
    pairs = np.array(pairs_of(blocks))
    draw = np.random.default_rng(0)
    claims = 0
    for _ in range(200):
        of_question, of_answer = draw.normal(1, spread, 40), draw.normal(1, spread, 40)
        fall = of_question[pairs[:, 0]] + of_answer[pairs[:, 1]]
        base = draw.normal(4, 0.5, len(pairs))
        tuned = base - fall + draw.normal(0, 0.3, len(pairs))
        claims += decide(blocks, base, tuned).kind == "answers"
    assert claims <= 4


def test_gains_of_questions_and_answers_alone_hide_no_learned_answers():
    blocks = different(60)
    pairs = np.array(pairs_of(blocks))
    draw = np.random.default_rng(3)
    fall = draw.normal(2, 1, 60)[pairs[:, 0]] + draw.normal(2, 1, 60)[pairs[:, 1]]
    base = losses(blocks, 5, scale=0)
    tuned = losses(blocks, 6, right=3.8, other=4.0) - fall
    assert decide(blocks, base, tuned).kind == "answers"


def test_the_chance_is_the_share_of_permutations_that_gain_as_much():
    from modelforge.evaluate.exchange import _permutation_test

    matrix = np.random.default_rng(8).normal(0, 1, (4, 4))
    sums = [
        sum(matrix[row, column] for row, column in enumerate(p)) for p in permutations(range(4))
    ]
    exact = np.mean([each <= matrix.trace() + 1e-9 for each in sums])
    assert _permutation_test([matrix])[0] == pytest.approx(exact, abs=0.02)
    assert _permutation_test([np.zeros((4, 4))]) == (1.0, 0.0)


def test_a_gain_just_above_the_least_one_is_told_from_chance():
    blocks = different(40)
    noise = losses(blocks, 9, scale=0.4) - 4.0
    least = decide(blocks, np.full(len(noise), 4.0), 2.0 + noise).gain.least
    own = np.array([q == a for q, a in pairs_of(blocks)])
    zero = decide(blocks, np.full(len(noise), 4.0), 2.0 + noise).gain.value
    for gain, is_told in ((1.15 * least, True), (0.85 * least, False)):
        tuned = 2.0 + noise - np.where(own, gain - zero, 0.0)
        learned = decide(blocks, np.full(len(noise), 4.0), tuned)
        assert learned.gain.value == pytest.approx(gain)
        assert (learned.gain.chance < 0.005) == is_told


def test_every_answer_is_read_behind_every_question_of_its_block():
    draw = np.random.default_rng(1)
    answers = [[n, *draw.integers(0, 9, draw.integers(1, 40))] for n in range(50)]
    blocks = exchanged(answers)
    assert sorted(row for block in blocks for row in block.rows) == list(range(50))
    assert {len(block.rows) for block in blocks} <= {4, 5}
    for block in blocks:
        assert (block.differs == ~np.eye(len(block.rows), dtype=bool)).all()
    longest = [max(len(answers[row]) for row in block.rows) for block in blocks]
    shortest = [min(len(answers[row]) for row in block.rows) for block in blocks]
    assert all(high <= low for high, low in zip(longest, shortest[1:], strict=False))
    again = exchanged(answers)
    assert [block.rows for block in again] == [block.rows for block in blocks]


def test_equal_answers_are_not_held_against_each_other():
    blocks = exchanged([[7]] * 30 + [[8]] * 30)
    base = losses(blocks, 1, scale=0)
    answers = [int(row >= 30) for row in range(60)]
    pairs = pairs_of(blocks)
    # Right is every answer that equals the own one.
    tuned = np.array([2.0 if answers[q] == answers[a] else 3.0 for q, a in pairs])
    learned = decide(blocks, base, tuned)
    assert learned.kind == "answers"
    assert learned.right[1] == 2.0
    assert learned.exchanged[1] == 3.0


def test_nothing_is_exchanged_without_answers_that_differ():
    assert exchanged([[7]] * 5) == []
    assert exchanged([[]] * 5) == []
    assert exchanged([[7]]) == []
    assert decide([], [], []).kind == "too-few-rows"
