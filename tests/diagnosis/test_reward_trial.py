"""The verdict on a reward, from measured groups, cheats and expected answers."""

from __future__ import annotations

from math import nan

import pytest

from modelforge.diagnosis.reward_trial import CHEATS, RewardSample, has_signal, judge_reward

NO_CHEATS = {name: [[0.0, 0.0]] for name in CHEATS}


def judged(groups, *, cheats=None, expected=(1.0, 1.0), cut=0, identical=0, is_rule=True):
    cheats = NO_CHEATS | (cheats or {})
    return judge_reward(RewardSample(groups, identical, cheats, expected, cut, is_rule))


MIXED = [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]


def test_the_numbers_behind_a_verdict():
    found = judged(MIXED, expected=(1.0, 0.0))
    assert found.kind == "fair"
    assert (found.no_signal, found.mean, found.spread, found.best) == (2, 0.5, 0.25, 0.75)
    assert found.expected == 0.5
    assert found.interval.low < 0.5 < found.interval.high
    assert found.cheats == dict.fromkeys(CHEATS, 0.0)


@pytest.mark.parametrize(
    ("rewards", "signal"),
    [
        ([1.0, 1.0], False),
        ([1 / 3, 1 / 3 + 1e-8], False),
        ([0.5, 0.50001], True),
        ([nan, 1.0], False),
        ([nan, nan], False),
        ([nan, 1.0, 0.0], True),
    ],
)
def test_a_group_has_a_signal_if_its_finite_rewards_differ(rewards, signal):
    assert has_signal(rewards) is signal


def test_a_reward_that_every_answer_gets_is_constant():
    found = judged([[1.0, 1.0]] * 3)
    assert found.kind == "constant"
    assert "All of the 6 answers in 3 groups got the same reward, 1.00" in found.sentence
    assert "demands more" in found.advice


def test_equal_rewards_in_each_group_are_constant_also_if_prompts_differ():
    found = judged([[0.2, 0.2], [0.7, 0.7]])
    assert (found.kind, found.no_signal) == ("constant", 2)
    assert "none of the 2 groups" in found.sentence


def test_the_same_text_each_time_asks_for_a_higher_temperature():
    assert "temperature" in judged([[0.4, 0.4]] * 2, identical=2).advice
    assert "temperature" not in judged([[0.4, 0.4]] * 2, identical=1).advice


@pytest.mark.parametrize(
    ("expected", "cut", "advice"),
    [
        ((1.0, 1.0), 0, "Train on the answers first"),
        ((), 0, "Train on the answers first"),
        ((0.0, 0.0), 0, "Correct the reward"),
        ((0.0, 0.0), 2, "2 of 2 expected answers are longer than the longest completion"),
    ],
)
def test_a_reward_that_no_answer_gets_is_impossible_and_the_advice_follows_the_rows(
    expected, cut, advice
):
    found = judged([[0.0, 0.0]] * 2, expected=expected, cut=cut)
    assert found.kind == "impossible"
    assert advice in found.advice


def test_a_reward_model_without_spread_is_impossible_only_if_right_answers_get_more():
    assert judged([[-2.0, -2.0]], expected=(1.5,), is_rule=False).kind == "impossible"
    assert judged([[-2.0, -2.0]], expected=(-2.5,), is_rule=False).kind == "constant"
    assert judged([[-2.0, -2.0]], expected=(), is_rule=False).kind == "constant"


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_that_gets_as_much_as_the_best_answers_makes_a_reward_cheatable(name):
    found = judged(MIXED, cheats={name: [[0.0, 0.0], [1.0, 1.0]]})
    assert found.kind == "cheatable"
    assert CHEATS[name][1] in found.sentence
    assert "gets 1.00" in found.sentence
    assert found.cheats[name] == 1


def test_a_cheat_is_compared_with_the_answers_to_the_same_prompts():
    # The best answers to the first two prompts get 0.5 on average, to the others 1.
    assert judged(MIXED, cheats={"copied": [[0.4, 0.4]]}, expected=()).kind == "fair"
    assert judged(MIXED, cheats={"copied": [[0.6, 0.6]]}, expected=()).kind == "cheatable"


def test_a_cheat_that_gets_clearly_less_than_right_answers_is_none():
    groups = [[0.1, 0.2], [0.1, 0.3]]
    assert judged(groups, cheats={"longest": [[0.4, 0.4]]}).kind == "fair"
    assert judged(groups, cheats={"longest": [[0.95, 0.95]]}).kind == "cheatable"
    assert judged(groups, cheats={"longest": [[0.4, 0.4]]}, expected=()).kind == "cheatable"


def test_an_answer_that_is_the_expected_one_is_no_cheat():
    assert judged(MIXED, cheats={"copied": [[None, None]]}).kind == "fair"
    assert "copied" not in judged(MIXED, cheats={"copied": [[None, None]]}).cheats


def test_many_groups_without_signal_are_in_the_advice_of_a_fair_reward():
    assert "More completions" in judged([[0.0, 0.0]] * 3 + [[1.0, 0.0]]).advice
    assert "Nothing needs to change" in judged([[1.0, 0.0]] * 3 + [[0.0, 0.0]]).advice


def test_rewards_that_are_not_finite_do_not_count():
    found = judged([[nan, 1.0], [0.0, 1.0]], expected=(nan, 1.0), cheats={"empty": [[nan, 0.0]]})
    assert (found.kind, found.no_signal, found.expected) == ("fair", 1, 1)
    with pytest.raises(ValueError, match="finite"):
        judged([[nan, nan]])
