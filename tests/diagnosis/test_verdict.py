"""The verdict on synthetic curves: better, overfit, no effect, broken or unclear."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from modelforge.diagnosis.verdict import Outcome, degeneration, judge
from modelforge.runs.event_types import (
    EvalEvent,
    FailedEvent,
    FinishedEvent,
    PlanEvent,
    StepEvent,
)
from modelforge.runs.events import EventRecord
from modelforge.runs.progress.metrics import MeasuredStage
from modelforge.runs.timeline import Timeline


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


FINISHED = FinishedEvent(best_step=100)
EVAL_LOSS = [(25, 2.0), (50, 1.5), (75, 1.3), (100, 1.2)]


def verdict_on(*, scores=None, **measured):
    scores = scores or {}
    before, after = scores.get("before") or {}, scores.get("after") or {}
    return judge(Outcome(before=before, after=after, **measured))


def test_a_falling_loss_and_evaluation_loss_are_better():
    verdict = verdict_on(loss=falling(), eval_loss=EVAL_LOSS, ending=FINISHED)
    assert verdict.kind == "better"
    assert "The loss fell from" in verdict.text
    assert "The evaluation loss is 1.20." in verdict.text
    assert verdict.numbers["best evaluation loss"] == 1.2
    assert verdict.numbers["steps measured"] == 100


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_no_effect(seed):
    assert verdict_on(loss=flat(seed=seed)).kind == "no-effect"


def test_strong_noise_in_few_steps_is_rarely_called_an_effect():
    kinds = Counter(verdict_on(loss=flat(12, noise=0.4, seed=seed)).kind for seed in range(200))
    assert kinds.keys() <= {"no-effect", "unclear", "better"}
    assert kinds["better"] <= 0.05 * 200
    assert kinds["no-effect"] > 100


def test_an_insignificant_fall_in_few_steps_is_unclear():
    verdict = verdict_on(
        loss=list(enumerate((4.2, 4.9, 3.6, 3.2, 3.9, 2.8), 1)), eval_loss=[(4, 3.18)]
    )
    assert verdict.kind == "unclear"
    assert "fell from 4.23 to 3.30" in verdict.text
    assert "too few steps" in verdict.text


@pytest.mark.parametrize("seed", range(20))
def test_a_falling_noisy_loss_is_better(seed):
    assert verdict_on(loss=falling(60, noise=0.3, seed=seed)).kind == "better"


def test_no_effect_suggests_what_to_try():
    verdict = verdict_on(loss=flat(), eval_loss=[(50, 2.0), (100, 1.99)])
    assert verdict.kind == "no-effect"
    assert "learning rate" in verdict.text


def test_better_without_evaluation_mentions_memorisation():
    assert "There was no evaluation" in verdict_on(loss=falling()).text


def test_a_rising_evaluation_loss_is_overfitting():
    held = [(25, 2.0), (50, 1.2), (75, 1.4), (100, 1.9)]
    verdict = verdict_on(loss=falling(), eval_loss=held, ending=FINISHED)
    assert verdict.kind == "overfit"
    assert "rose again, from 1.20 at step 50 to 1.90" in verdict.text
    assert verdict.text.endswith("The weights of the best evaluation were kept.")
    assert verdict.numbers["step of the best evaluation"] == 50


def test_rising_from_the_first_evaluation_is_overfitting():
    verdict = verdict_on(loss=falling(), eval_loss=[(25, 1.0), (50, 1.5), (100, 2.5)])
    assert verdict.kind == "overfit"
    assert "from the first evaluation on" in verdict.text
    assert "kept" not in verdict.text


def test_a_loss_that_stays_in_few_steps_had_no_effect():
    assert verdict_on(loss=STEADY[:12]).kind == "no-effect"


def test_a_rise_counts_in_relation_to_the_first_evaluation():
    held = [(10, 3.0), (20, 1.0)]
    assert verdict_on(eval_loss=[*held, (30, 1.05)]).kind == "better"
    assert verdict_on(eval_loss=[*held, (30, 1.07)]).kind == "overfit"


def test_a_tiny_rise_of_the_evaluation_loss_is_not_overfitting():
    assert verdict_on(loss=falling(), eval_loss=[(50, 1.20), (100, 1.21)]).kind == "better"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_broken(value):
    verdict = verdict_on(loss=[*falling(20), (21, value)])
    assert verdict.kind == "broken"
    assert "at step 21" in verdict.text
    assert verdict_on(loss=falling(20), eval_loss=[(20, value)]).kind == "broken"
    assert all(math.isfinite(number) for number in verdict.numbers.values() if number is not None)


def test_a_run_that_failed_because_of_its_loss_is_broken():
    ending = FailedEvent(cause="loss-not-finite")
    assert verdict_on(loss=falling(), ending=ending).kind == "broken"


def test_a_diverging_loss_is_broken():
    rising = [(n, 2.0 * 1.05**n) for n in range(1, 101)]
    verdict = verdict_on(loss=rising)
    assert verdict.kind == "broken"
    assert "instead of falling" in verdict.text


@pytest.mark.parametrize("loss", [[], [(1, 2.0)], [(1, 2.0), (2, 1.0)], falling(5)])
def test_few_steps_are_unclear(loss):
    verdict = verdict_on(loss=loss)
    assert verdict.kind == "unclear"
    assert verdict.text


def test_a_tiny_run_is_judged_by_its_evaluations():
    assert verdict_on(loss=[(1, 2.0), (2, 1.6)], eval_loss=[(1, 2.0), (2, 1.5)]).kind == "better"
    assert verdict_on(loss=[(1, 2.0)], eval_loss=[(1, 2.0)]).kind == "unclear"
    assert verdict_on(loss=[(1, 2.0), (2, 1.6)], eval_loss=[(1, 1.0), (2, 1.5)]).kind == "overfit"


def test_rewards_take_precedence_over_the_loss():
    up = {"reward": falling(40, start=0.1, end=0.9, noise=0.02)}
    assert verdict_on(loss=flat(40), train=up).kind == "better"
    down = {"reward": falling(40, start=0.9, end=0.1, noise=0.02)}
    assert verdict_on(loss=flat(40), train=down).kind == "broken"
    assert verdict_on(loss=falling(40), train={"reward": flat(40, 0.5)}).kind == "no-effect"
    assert verdict_on(train={"reward": [(1, 0.1), (2, 0.4)]}).kind == "unclear"


@pytest.mark.parametrize(
    ("margin", "right", "kind"),
    [(0.8, 0.9, "better"), (0.01, 0.52, "unclear"), (-0.2, 0.4, "no-effect"),
     (0.1, 0.5, "no-effect"), (0.1, 0.54, "unclear"), (0.1, 0.55, "better")],
)  # fmt: skip
def test_preferences_are_judged_by_evaluation_pairs(margin, right, kind):
    held = {"rewards/margins": [(10, 0.0), (20, margin)], "rewards/accuracies": [(20, right)]}
    while_training = {"rewards/margins": [(20, 5.0)], "rewards/accuracies": [(20, 1.0)]}
    verdict = verdict_on(loss=falling(20), train=while_training, eval=held)
    assert verdict.kind == kind
    assert f"{margin:.2f} on the evaluation pairs" in verdict.text


def test_scores_take_precedence_over_the_loss():
    better = verdict_on(loss=flat(), scores={"before": {"f1": 0.3}, "after": {"f1": 0.8}})
    assert better.kind == "better"
    assert "F1 went from 0.30 to 0.80" in better.text
    assert (better.numbers["f1 before"], better.numbers["f1 after"]) == (0.3, 0.8)
    same = verdict_on(loss=falling(), scores={"before": {"f1": 0.3}, "after": {"f1": 0.31}})
    assert same.kind == "no-effect"
    worse = verdict_on(loss=falling(), scores={"before": {"rougeL": 0.5}, "after": {"rougeL": 0.1}})
    assert worse.kind == "broken"
    surprised = {"before": {"perplexity": 30.0}, "after": {"perplexity": 12.0}}
    assert verdict_on(loss=falling(), scores=surprised).kind == "better"
    assert (
        verdict_on(loss=falling(), scores={"before": None, "after": {"f1": 0.1}}).kind == "better"
    )


def test_repeating_or_empty_completions_are_broken():
    repeating = ["the cat sat on the mat " * 10] * 4
    verdict = verdict_on(loss=falling(), eval_loss=EVAL_LOSS, completions=repeating)
    assert (verdict.kind, "repeat themselves" in verdict.text) == ("broken", True)
    verdict = verdict_on(loss=falling(), eval_loss=EVAL_LOSS, completions=[" "] * 3)
    assert (verdict.kind, "are empty" in verdict.text) == ("broken", True)
    fluent = [f"Answer {n}: it lies in the north of the country, by the sea." for n in range(5)]
    assert (
        verdict_on(loss=falling(), eval_loss=EVAL_LOSS, completions=[repeating[0], *fluent]).kind
        == "better"
    )
    assert (
        verdict_on(loss=falling(), eval_loss=EVAL_LOSS, completions=repeating[:2]).kind == "better"
    )


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [("", "empty"), ("\n ", "empty"), ("yes yes yes", ""), ("no " * 30, "repeats"),
     ("A short list: one two three four five six seven eight nine ten.", ""),
     ("a a a a a a a b c", ""), ("a a a a a a a a b c", "repeats")],
)  # fmt: skip
def test_degeneration_of_a_completion(answer, wrong):
    assert degeneration(answer) == wrong


def test_a_verdict_has_two_sentences_and_one_without_any_step():
    for verdict, sentences in (
        (verdict_on(loss=falling(), eval_loss=EVAL_LOSS), 2),
        (verdict_on(loss=flat()), 2),
        (verdict_on(), 1),
    ):
        assert verdict.text.count(". ") + 1 == sentences
        assert verdict.text.endswith(".")


STEADY = [(step, 2.0) for step in range(1, 41)]


@pytest.mark.parametrize(
    ("last", "kind"),
    [(1.97, "no-effect"), (1.95, "better"), (2.03, "no-effect"), (2.08, "overfit")],
)
def test_two_percent_of_the_evaluation_loss_are_an_effect(last, kind):
    assert verdict_on(loss=STEADY, eval_loss=[(20, 2.0), (40, last)]).kind == kind


@pytest.mark.parametrize(
    ("after", "kind"),
    [(0.315, "no-effect"), (0.325, "better"), (0.275, "broken"), (0.285, "no-effect")],
)
def test_two_hundredths_of_a_score_are_an_effect(after, kind):
    scores = {"before": {"f1": 0.3}, "after": {"f1": after}}
    assert verdict_on(loss=STEADY, scores=scores).kind == kind


@pytest.mark.parametrize(
    ("after", "kind"), [(0.52, "no-effect"), (0.54, "better"), (0.47, "broken")]
)
def test_five_percent_of_the_reward_are_an_effect(after, kind):
    scores = {"before": {"reward": 0.5}, "after": {"reward": after}}
    assert verdict_on(scores=scores).kind == kind


@pytest.mark.parametrize(
    ("start", "end", "kind"),
    [(2.0, 3.8, "no-effect"), (2.0, 4.4, "broken"), (0.2, 1.1, "no-effect"), (0.2, 1.3, "broken")],
)
def test_a_loss_has_diverged_when_it_doubled_and_rose_by_one(start, end, kind):
    loss = [(step, start if step <= 20 else end) for step in range(1, 41)]
    assert verdict_on(loss=loss).kind == kind


@pytest.mark.parametrize(("spoilt", "kind"), [(3, "better"), (4, "broken")])
def test_two_thirds_of_the_newest_completions_make_a_verdict(spoilt, kind):
    fluent = "It lies in the north of the country, close to the sea."
    completions = ["no " * 30] * spoilt + [fluent] * (6 - spoilt) + ["no " * 30] * 9
    verdict = verdict_on(loss=falling(), eval_loss=EVAL_LOSS, completions=completions)
    assert verdict.kind == kind


def test_a_rise_near_zero_is_not_overfitting():
    """0.0006 is 20 % more than 0.0005, but nothing relative to the initial loss."""
    held = [(20, 1.26), (40, 0.04), (160, 0.0005), (216, 0.0006)]
    loss = [(step, 3.2 * 0.97**step) for step in range(1, 217)]
    assert verdict_on(loss=loss, eval_loss=held, ending=FinishedEvent()).kind == "better"


@pytest.mark.parametrize(
    ("after", "kind"), [(0.18, "better"), (-0.0205, "no-effect"), (-0.4, "broken")]
)
def test_rewards_on_evaluation_prompts_take_precedence_over_those_of_training(after, kind):
    falling = {"reward": [(step, 0.4 - step / 30) for step in range(12)]}
    scores = {"before": {"reward": -0.02}, "after": {"reward": after}}
    assert verdict_on(train=falling, scores=scores).kind == kind


@pytest.mark.parametrize(
    ("accuracy", "pairs", "kind"),
    [
        (7 / 8, 8, "unclear"),
        (10 / 10, 10, "better"),
        (0.5, 8, "unclear"),
        (0.5, 100, "no-effect"),
        (0.6, 40, "unclear"),
        (0.6, 400, "better"),
        (0.56, 4000, "better"),
        (7 / 8, None, "better"),
    ],
)
def test_a_preference_on_few_pairs_is_not_called_an_effect(accuracy, pairs, kind):
    curves = {"rewards/margins": [(6, 0.06)], "rewards/accuracies": [(6, accuracy)]}
    verdict = verdict_on(loss=falling(6), eval=curves, eval_rows=pairs)
    assert verdict.kind == kind
    if kind == "unclear":
        assert f"{pairs} evaluation pairs are too few" in verdict.text


def test_a_learned_preference_mentions_that_both_became_less_likely():
    curves = {
        "rewards/margins": [(6, 0.5)],
        "rewards/accuracies": [(6, 0.9)],
        "rewards/chosen": [(6, -0.2)],
    }
    assert "less likely than before" in verdict_on(eval=curves, eval_rows=100).text


@pytest.mark.parametrize(
    ("name", "before", "after", "rows", "kind"),
    [
        ("rouge1", 0.2, 0.4, 12, "unclear"),
        ("rouge1", 0.2, 0.4, 200, "better"),
        ("rouge1", 0.20, 0.21, 2000, "no-effect"),
        ("rouge1", 0.20, 0.21, 12, "unclear"),
        ("exact_match", 0.9, 0.5, 100, "broken"),
        ("exact_match", 0.6, 0.5, 30, "unclear"),
        ("perplexity", 30.0, 20.0, 5, "unclear"),
        ("perplexity", 30.0, 20.0, 50, "better"),
    ],
)
def test_a_score_on_few_rows_is_not_called_an_effect(name, before, after, rows, kind):
    scores = {"before": {name: before}, "after": {name: after}}
    verdict = verdict_on(loss=falling(), scores=scores, scored_rows=rows)
    assert verdict.kind == kind


@pytest.mark.parametrize(("spread", "rows", "kind"), [(1.0, 8, "unclear"), (0.1, 8, "better")])
def test_a_reward_on_few_prompts_is_not_called_an_effect(spread, rows, kind):
    scores = {"before": {"reward": 0.2}, "after": {"reward": 0.5}}
    train = {"reward_std": [(6, spread)]}
    assert verdict_on(scores=scores, train=train, scored_rows=rows).kind == kind
    assert verdict_on(scores=scores, scored_rows=rows).kind == "unclear"


def test_a_run_that_ended_before_its_first_evaluation_names_its_rows():
    verdict = verdict_on(loss=falling(), eval_rows=23)
    assert "before the first evaluation of its 23 rows" in verdict.text
    assert "memorised" not in verdict.text
    assert "memorised" in verdict_on(loss=falling(), eval_rows=0).text


def test_a_falling_evaluation_loss_of_few_rows_is_unclear():
    assert verdict_on(loss=falling(), eval_loss=EVAL_LOSS, eval_rows=19).kind == "unclear"
    assert verdict_on(loss=falling(), eval_loss=EVAL_LOSS, eval_rows=20).kind == "better"


def test_a_new_model_is_judged_by_its_bits_per_byte():
    plan = PlanEvent(total_steps=100, eval_rows=7, bytes_per_token=3.0)
    steps = [StepEvent(step=step, loss=loss) for step, loss in falling()]
    bits = EvalEvent(step=100, loss=1.2, metrics={"bits_per_byte": 1.629})
    events = [plan, *steps, bits, FINISHED]
    timeline = Timeline(MeasuredStage).add_all(
        EventRecord(number, float(number), event.kind, event.as_data())
        for number, event in enumerate(events, start=1)
    )
    verdict = judge(Outcome.of(timeline))
    assert verdict.kind == "better"
    assert "1.63 bits per byte" in verdict.text
