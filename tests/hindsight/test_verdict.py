"""The verdict on hand-made curves: learned, by heart, no effect, broken, or too little to tell."""

from __future__ import annotations

import math
import random

import pytest

from modelforge.diagnosis.verdict import judge, spoilt


def falling(count: int = 100, start: float = 3.0, end: float = 1.0, noise: float = 0.1, seed=0):
    rng = random.Random(seed)
    pace = count / 4
    return [
        (n, end + (start - end) * math.exp(-n / pace) + rng.gauss(0, noise))
        for n in range(1, count + 1)
    ]


def flat(count: int = 100, level: float = 2.0, noise: float = 0.1, seed=0):
    rng = random.Random(seed)
    return [(n, level + rng.gauss(0, noise)) for n in range(1, count + 1)]


FINISHED = {"kind": "finished", "best_step": 100}
GOOD = [(25, 2.0), (50, 1.5), (75, 1.3), (100, 1.2)]


def test_a_loss_that_falls_on_unseen_rows_too_is_better():
    said = judge(loss=falling(), held_out=GOOD, ending=FINISHED)
    assert said.kind == "better"
    assert "The loss fell from" in said.text
    assert "On rows it never saw it is 1.20." in said.text
    assert said.numbers["held-out loss at its best"] == 1.2
    assert said.numbers["updates measured"] == 100


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_effect(seed):
    assert judge(loss=flat(seed=seed)).kind == "no-effect"
    assert judge(loss=flat(12, noise=0.4, seed=seed)).kind in ("no-effect", "better", "unclear")


def test_a_fall_in_few_updates_is_not_called_nothing():
    said = judge(loss=list(enumerate((4.2, 4.9, 3.6, 3.2, 3.9, 2.8), 1)), held_out=[(4, 3.18)])
    assert said.kind == "unclear"
    assert "fell from 4.23 to 3.30" in said.text
    assert "too few updates" in said.text


@pytest.mark.parametrize("seed", range(20))
def test_learning_is_seen_through_noise(seed):
    assert judge(loss=falling(60, noise=0.3, seed=seed)).kind == "better"


def test_no_effect_says_what_to_try():
    said = judge(loss=flat(), held_out=[(50, 2.0), (100, 1.99)])
    assert said.kind == "no-effect"
    assert "learning rate" in said.text


def test_without_held_out_rows_better_is_said_with_care():
    assert "No rows were held out" in judge(loss=falling()).text


def test_a_held_out_loss_that_goes_up_again_is_by_heart():
    held = [(25, 2.0), (50, 1.2), (75, 1.4), (100, 1.9)]
    said = judge(loss=falling(), held_out=held, ending=FINISHED)
    assert said.kind == "overfit"
    assert "went up again, from 1.20 at update 50 to 1.90" in said.text
    assert said.text.endswith("The better state was kept.")
    assert said.numbers["update of the best check"] == 50


def test_rising_from_the_first_check_is_by_heart_too():
    said = judge(loss=falling(), held_out=[(25, 1.0), (50, 1.5), (100, 2.5)])
    assert said.kind == "overfit"
    assert "from the first check on" in said.text
    assert "kept" not in said.text


def test_a_hair_s_breadth_on_unseen_rows_is_not_by_heart():
    assert judge(loss=falling(), held_out=[(50, 1.20), (100, 1.21)]).kind == "better"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_broken(value):
    said = judge(loss=[*falling(20), (21, value)])
    assert said.kind == "broken"
    assert "at update 21" in said.text
    assert judge(loss=falling(20), held_out=[(20, value)]).kind == "broken"
    assert all(math.isfinite(number) for number in said.numbers.values() if number is not None)


def test_a_run_that_ended_for_its_loss_is_broken():
    ending = {"kind": "failed", "cause": "loss-not-finite"}
    assert judge(loss=falling(), ending=ending).kind == "broken"


def test_a_loss_that_explodes_is_broken():
    rising = [(n, 2.0 * 1.05**n) for n in range(1, 101)]
    said = judge(loss=rising)
    assert said.kind == "broken"
    assert "instead of falling" in said.text


@pytest.mark.parametrize("loss", [[], [(1, 2.0)], [(1, 2.0), (2, 1.0)], falling(5)])
def test_a_handful_of_updates_is_too_little_to_tell(loss):
    said = judge(loss=loss)
    assert said.kind == "unclear"
    assert said.text


def test_a_tiny_run_is_judged_by_its_checks():
    assert judge(loss=[(1, 2.0), (2, 1.6)], held_out=[(1, 2.0), (2, 1.5)]).kind == "better"
    assert judge(loss=[(1, 2.0)], held_out=[(1, 2.0)]).kind == "unclear"
    assert judge(loss=[(1, 2.0), (2, 1.6)], held_out=[(1, 1.0), (2, 1.5)]).kind == "overfit"


def test_rewards_speak_before_the_loss():
    up = {"reward": falling(40, start=0.1, end=0.9, noise=0.02)}
    assert judge(loss=flat(40), metrics=up).kind == "better"
    down = {"reward": falling(40, start=0.9, end=0.1, noise=0.02)}
    assert judge(loss=flat(40), metrics=down).kind == "broken"
    assert judge(loss=falling(40), metrics={"reward": flat(40, 0.5)}).kind == "no-effect"
    assert judge(metrics={"reward": [(1, 0.1), (2, 0.4)]}).kind == "unclear"


@pytest.mark.parametrize(
    ("margin", "right", "kind"),
    [(0.8, 0.9, "better"), (0.01, 0.52, "unclear"), (-0.2, 0.4, "no-effect"),
     (0.1, 0.5, "no-effect")],
)  # fmt: skip
def test_preferences_are_judged_by_pairs_it_never_saw(margin, right, kind):
    held = {"rewards/margins": [(10, 0.0), (20, margin)], "rewards/accuracies": [(20, right)]}
    while_training = {"rewards/margins": [(20, 5.0)], "rewards/accuracies": [(20, 1.0)]}
    said = judge(loss=falling(20), metrics=while_training, held=held)
    assert said.kind == kind
    assert f"{margin:.2f} on pairs it never saw" in said.text


def test_scores_speak_before_the_loss():
    better = judge(loss=flat(), scores={"before": {"f1": 0.3}, "after": {"f1": 0.8}})
    assert better.kind == "better"
    assert "F1 went from 0.30 to 0.80" in better.text
    same = judge(loss=falling(), scores={"before": {"f1": 0.3}, "after": {"f1": 0.31}})
    assert same.kind == "no-effect"
    worse = judge(loss=falling(), scores={"before": {"rougeL": 0.5}, "after": {"rougeL": 0.1}})
    assert worse.kind == "broken"
    surprised = {"before": {"perplexity": 30.0}, "after": {"perplexity": 12.0}}
    assert judge(loss=falling(), scores=surprised).kind == "better"
    assert judge(loss=falling(), scores={"before": None, "after": {"f1": 0.1}}).kind == "better"


def test_answers_that_repeat_or_are_empty_are_broken():
    mad = [{"completion": "the cat sat on the mat " * 10}] * 4
    said = judge(loss=falling(), held_out=GOOD, samples=mad)
    assert (said.kind, "repeat themselves" in said.text) == ("broken", True)
    said = judge(loss=falling(), held_out=GOOD, samples=[{"completion": " "}] * 3)
    assert (said.kind, "are empty" in said.text) == ("broken", True)
    well = [{"completion": f"Answer {n}: it lies in the north of the country, by the sea."}
            for n in range(5)]  # fmt: skip
    assert judge(loss=falling(), held_out=GOOD, samples=[mad[0], *well]).kind == "better"
    assert judge(loss=falling(), held_out=GOOD, samples=mad[:2]).kind == "better"


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [("", "empty"), ("\n ", "empty"), ("yes yes yes", ""), ("no " * 30, "repeats"),
     ("A short list: one two three four five six seven eight nine ten.", "")],
)  # fmt: skip
def test_an_answer_is_looked_at_by_its_words(answer, wrong):
    assert spoilt(answer) == wrong


def test_two_sentences_are_enough():
    for said in (judge(loss=falling(), held_out=GOOD), judge(loss=flat()), judge()):
        assert 1 <= said.text.count(". ") + 1 <= 3
        assert said.text.endswith(".")


def test_a_change_close_to_nothing_is_not_by_heart():
    """Beside 0.0005 a loss of 0.0006 is 20 % more, and beside what was learned it is nothing."""
    held = [(20, 1.26), (40, 0.04), (160, 0.0005), (216, 0.0006)]
    loss = [(step, 3.2 * 0.97**step) for step in range(1, 217)]
    assert judge(loss=loss, held_out=held, ending={"kind": "finished"}).kind == "better"


@pytest.mark.parametrize(
    ("after", "kind"), [(0.18, "better"), (-0.0205, "no-effect"), (-0.4, "broken")]
)
def test_rewards_on_held_out_prompts_speak_before_those_of_training(after, kind):
    falling = {"reward": [(step, 0.4 - step / 30) for step in range(12)]}
    scores = {"before": {"reward": -0.02}, "after": {"reward": after}}
    assert judge(metrics=falling, scores=scores).kind == kind
