"""Verdict on a run from its curves, scores and samples: a kind, two sentences and the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from modelforge.diagnosis.trend import Trend, trend
from modelforge.runs.event_types import (
    Ending,
    FailedEvent,
    FinishedEvent,
    ScoresEvent,
    StoppedEvent,
)
from modelforge.runs.events import iter_events
from modelforge.runs.progress.metrics import MeasuredStage, is_number
from modelforge.runs.progress.whole_run import whole_run
from modelforge.runs.timeline import Timeline

Kind = Literal["better", "overfit", "no-effect", "broken", "unclear"]
Points = Sequence[tuple[float, float]]
Judgement = tuple[Kind, str] | None

# The newest samples that are looked at, how many are needed, and the share that makes a verdict.
NEWEST_SAMPLES, FEWEST_SAMPLES, DEGENERATE_SHARE = 6, 3, 2 / 3
# Relative changes of a loss up to this size are not meaningful.
TOLERANCE = 0.02
# A fall by this share that is not significant, in fewer steps than that, leaves the verdict open.
OPEN_FALL, FEW_STEPS = 0.1, 30
DIVERGED_FACTOR = 2.0
SCORE_TOLERANCE = 0.02
REWARD_TOLERANCE = 0.05
# With fewer evaluation rows, an effect that has no interval counts as chance.
FEW_ROWS = 20
# Two-sided 95 % intervals.
Z, TAIL = 1.96, 0.025
# From this number on, the normal distribution replaces the exact test.
MANY_PAIRS = 1000
LOWER_IS_BETTER = frozenset({"perplexity", "bits_per_byte"})
SCORE_NAMES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "exact_match": "the share of exact matches",
    "f1": "F1",
    "perplexity": "the perplexity",
    "bits_per_byte": "the bits per byte",
}
# Names of margin and accuracy: those of the preference trainers, and of the reward trainer.
_MARGINS = (("rewards/margins", "rewards/accuracies"), ("margin", "accuracy"))


@dataclass(frozen=True)
class Verdict:
    """How a run went: its kind, what that means in two sentences, and the numbers behind it."""

    kind: Kind
    text: str
    numbers: dict[str, float | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a verdict is based on. Points are (step, value); what was not measured is empty.

    `completions` are the samples of the training, newest first; `before` and `after` are the
    scores of `scored_rows` generated answers. Numbers of rows are None where they are unknown.
    `bits_per_byte` is that of a new model on the evaluation text, which has no rows.
    `earlier_steps` are those of the finished stages of a growing model.
    """

    loss: Points = ()
    eval_loss: Points = ()
    train: Mapping[str, Points] = field(default_factory=dict)
    eval: Mapping[str, Points] = field(default_factory=dict)
    completions: Sequence[str] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    ending: Ending | None = None
    eval_rows: int | None = None
    bits_per_byte: float | None = None
    scored_rows: int | None = None
    earlier_steps: int = 0

    @classmethod
    def of(cls, timeline: Timeline) -> Outcome:
        """Return the outcome of the last stage of a run, or of all stages of a growing model."""
        stage, scores = whole_run(timeline), timeline.newest(ScoresEvent)
        plan = stage.plan
        is_new = plan is not None and plan.bytes_per_token is not None
        return cls(
            loss=stage.train["loss"],
            eval_loss=stage.eval["loss"],
            train=stage.train,
            eval=stage.eval,
            completions=[sample.completion for sample in timeline.samples],
            before=(scores.before if scores else None) or {},
            after=scores.after if scores else {},
            ending=timeline.ending,
            eval_rows=plan.eval_rows if plan and not is_new else None,
            bits_per_byte=_last(stage.eval.get("bits_per_byte")) if is_new else None,
            scored_rows=scores.rows if scores else None,
            earlier_steps=stage.step - timeline.stage.step,
        )


def judge_run(path: Path) -> Verdict | None:
    """Return the verdict on the run with this event file, or None while it continues."""
    timeline = Timeline(MeasuredStage).add_all(iter_events(path))
    return None if timeline.ending is None else judge(Outcome.of(timeline))


def judge(outcome: Outcome) -> Verdict:
    """Return the verdict on an outcome; it is `unclear` when there are too few measurements."""
    numbers = _numbers(outcome)
    for judgement in (
        _broken(outcome),
        _from_rewards(outcome),
        _from_preferences(outcome),
        _overfit(outcome),
        _from_scores(outcome),
        _from_loss(outcome),
    ):
        if judgement is not None:
            kind, text = judgement
            return Verdict(kind, text, numbers)
    return Verdict("unclear", _too_few(outcome.loss), numbers)


def degeneration(completion: str) -> str:
    """Return what is wrong with a completion: `empty`, `repeats` or nothing."""
    words = completion.split()
    if not words:
        return "empty"
    if len(words) < 8:
        return ""
    # Text in any language hardly repeats the same trigrams.
    trigrams = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    return "repeats" if len(set(trigrams)) < 0.4 * len(trigrams) else ""


def _broken(outcome: Outcome) -> Judgement:
    points = (*outcome.loss, *outcome.eval_loss)
    step = next((step for step, value in points if not math.isfinite(value)), None)
    ending = outcome.ending
    diverged = isinstance(ending, FailedEvent) and ending.cause == "loss-not-finite"
    if diverged or step is not None:
        where = "" if step is None else f" at step {step:,.0f}"
        return "broken", (
            f"The loss became NaN or infinite{where}, and the weights are unusable from there on. "
            "Lower the learning rate, and train in bf16 or fp32 instead of fp16."
        )
    loss = trend([value for _, value in outcome.loss])
    if loss and loss.end > max(DIVERGED_FACTOR * loss.start, loss.start + 1):
        return "broken", (
            f"The loss rose from {loss.start:.2f} to {loss.end:.2f} instead of falling. "
            "The learning rate is too high; try a quarter of it."
        )
    newest = [degeneration(completion) for completion in outcome.completions[:NEWEST_SAMPLES]]
    bad = [kind for kind in newest if kind]
    if len(newest) >= FEWEST_SAMPLES and len(bad) >= DEGENERATE_SHARE * len(newest):
        how = "are empty" if bad.count("empty") * 2 >= len(bad) else "repeat themselves"
        return "broken", (
            f"{len(bad)} of the newest {len(newest)} completions {how}: the model has degenerated. "
            "Lower the learning rate, or train for fewer steps."
        )
    return None


def _from_rewards(outcome: Outcome) -> Judgement:
    points = outcome.train.get("reward") or ()
    scores = _before_and_after(outcome, "reward")
    if scores is not None:
        before, after = scores
        text = f"On the evaluation prompts the mean reward went from {before:.2f} to {after:.2f}."
        if rows := outcome.scored_rows:
            spread = _last(outcome.eval.get("reward_std") or outcome.train.get("reward_std"))
            interval = Z * (spread or 0.0) * math.sqrt(2 / rows)
            if abs(after - before) <= interval or (spread is None and rows < FEW_ROWS):
                return "unclear", f"{text} {_chance(rows, 'prompts')}"
        if abs(after - before) <= REWARD_TOLERANCE * max(abs(before), abs(after)):
            return _reward_judgement(text, 0.0)
        return _reward_judgement(text, after - before)
    if len(points) < 2:
        return None
    reward = trend([value for _, value in points])
    if reward is None:
        text = _describe("The mean reward", points)
        return "unclear", f"{text} There are too few steps for a verdict."
    is_clear = reward.is_significant and reward.relative_change >= TOLERANCE
    text = f"The mean reward {reward.describe(TOLERANCE)}."
    return _reward_judgement(text, reward.end - reward.start if is_clear else 0.0)


def _reward_judgement(text: str, gain: float) -> Judgement:
    if gain == 0:
        return "no-effect", f"{text} The training had no effect on the reward."
    if gain > 0:
        return "better", f"{text} The model learned what is rewarded; read samples to see how."
    return "broken", f"{text} The model became worse; lower the learning rate."


def _from_preferences(outcome: Outcome) -> Judgement:
    for margin_name, accuracy_name in _MARGINS:
        is_eval = bool(outcome.eval.get(margin_name))
        source = outcome.eval if is_eval else outcome.train
        margins, accuracies = source.get(margin_name) or (), source.get(accuracy_name) or ()
        if not margins:
            continue
        where = "on the evaluation pairs" if is_eval else "on the training pairs"
        margin = margins[-1][1]
        text = f"The reward margin between chosen and rejected is {margin:.2f} {where}"
        accuracy = accuracies[-1][1] if accuracies else None
        pairs = outcome.eval_rows if is_eval else None
        if accuracy is not None:
            of_pairs = f" of {pairs} pairs" if pairs else ""
            text += f"; the chosen one is preferred in {100 * accuracy:.0f} %{of_pairs}"
        if _is_chance(accuracy, pairs):
            return "unclear", f"{text}. {_chance(pairs or 0, 'pairs')}"
        if margin <= 0 or (accuracy is not None and accuracy <= 0.5):
            return "no-effect", f"{text}. The model did not learn the preference."
        if accuracy is not None and accuracy < 0.55:
            return "unclear", f"{text}. That is hardly better than chance."
        chosen = _last(source.get("rewards/chosen"))
        if chosen is not None and chosen < 0:
            text += "; both became less likely than before"
        if is_eval:
            return "better", f"{text}. The model learned the preference."
        return "better", f"{text}. There was no evaluation, so it may have memorised these pairs."
    return None


def _overfit(outcome: Outcome) -> Judgement:
    points = outcome.eval_loss
    if len(points) < 2:
        return None
    best_step, best = min(points, key=lambda point: (point[1], point[0]))
    last = points[-1][1]
    # Relative to the loss at the beginning: near zero, any change is large relative to the best.
    initial = max(value for _, value in (*outcome.loss[:1], points[0]))
    if last - best <= TOLERANCE * max(best, initial):
        return None
    since = "from the first evaluation on" if (best_step, best) == tuple(points[0]) else "again"
    ending = outcome.ending
    # A later stage of a growing model begins with the best weights of the stage before.
    in_stage = best_step - outcome.earlier_steps
    is_best_kept = (isinstance(ending, FinishedEvent) and in_stage >= 0) or (
        isinstance(ending, StoppedEvent) and ending.best_step == in_stage
    )
    kept = " The weights of the best evaluation were kept." if is_best_kept else ""
    return "overfit", (
        f"{_describe('The loss', outcome.loss)} The evaluation loss rose {since}, from {best:.2f} "
        f"at step {best_step:,.0f} to {last:.2f}: the model began to memorise the training "
        f"rows.{kept}"
    ).strip()


def _from_scores(outcome: Outcome) -> Judgement:
    for name, label in SCORE_NAMES.items():
        scores = _before_and_after(outcome, name)
        if scores is None:
            continue
        before, after = scores
        is_lower_better = name in LOWER_IS_BETTER
        text = f"On the evaluation rows {label} went from {before:.2f} to {after:.2f}."
        gain = before - after if is_lower_better else after - before
        tolerance = SCORE_TOLERANCE * (max(abs(before), 1e-9) if is_lower_better else 1)
        if rows := outcome.scored_rows:
            interval = _score_interval(before, after, rows)
            is_open = tolerance <= abs(gain) <= interval
            if is_open or (rows < FEW_ROWS and (interval == 0 or abs(gain) < tolerance)):
                return "unclear", f"{text} {_chance(rows, 'rows')}"
        if abs(gain) < tolerance:
            return "no-effect", f"{text} The difference is not meaningful."
        if gain > 0:
            return "better", f"{text} The answers improved."
        return "broken", f"{text} The answers became worse; lower the learning rate."
    return None


def _from_loss(outcome: Outcome) -> Judgement:
    points, eval_points = outcome.loss, outcome.eval_loss
    loss = trend([value for _, value in points])
    eval_fell = len(eval_points) > 1 and eval_points[-1][1] < eval_points[0][1] * (1 - TOLERANCE)
    if loss is None and not eval_fell:
        return None
    text = _describe("The loss", points)
    if eval_points:
        text = f"{text} The evaluation loss is {eval_points[-1][1]:.2f}.".strip()
    if outcome.bits_per_byte is not None:
        text += f" Text it has not seen takes {outcome.bits_per_byte:.2f} bits per byte."
    fell = loss is not None and loss.is_significant and loss.relative_change >= TOLERANCE
    if eval_fell or (fell and loss is not None and loss.end < loss.start):
        if not eval_points and outcome.eval_rows:
            text += f" It ended before the first evaluation of its {outcome.eval_rows:,} rows."
        elif not eval_points:
            text += " There was no evaluation, so the model may have memorised the training rows."
        elif outcome.eval_rows is not None and outcome.eval_rows < FEW_ROWS:
            return "unclear", f"{text} {_chance(outcome.eval_rows, 'rows')}"
        return "better", text
    if loss is not None and loss.end < loss.start * (1 - OPEN_FALL) and len(points) < FEW_STEPS:
        return "unclear", f"{text} There are too few steps to tell that from chance."
    return "no-effect", (
        f"{text} The training had hardly any effect: raise the learning rate, train longer, "
        "or check the data."
    )


def _is_chance(accuracy: float | None, pairs: int | None) -> bool:
    """Return whether guessing could have preferred as many of the pairs (exact binomial test)."""
    if accuracy is None or not pairs:
        return False
    if accuracy <= 0.5:
        return pairs < FEW_ROWS
    if pairs > MANY_PAIRS:
        return accuracy <= 0.5 + Z * 0.5 / math.sqrt(pairs)
    right = round(accuracy * pairs)
    as_good = sum(math.comb(pairs, count) for count in range(right, pairs + 1))
    return bool(as_good / 2**pairs > TAIL)


def _score_interval(before: float, after: float, rows: int) -> float:
    """Return the half width of the interval of a difference of mean scores between 0 and 1.

    No score in [0, 1] with mean p varies more than p (1 - p). Other scores have no interval: 0.
    """
    variances = [mean * (1 - mean) for mean in (before, after)]
    return Z * math.sqrt(sum(variances) / rows) if min(variances) >= 0 else 0.0


def _chance(rows: int, what: str) -> str:
    return f"{rows:,} evaluation {what} are too few to tell that from chance."


def _last(points: Points | None) -> float | None:
    return points[-1][1] if points else None


def _before_and_after(outcome: Outcome, name: str) -> tuple[float, float] | None:
    """Return a score before and after training, or None where one of them is unknown."""
    before, after = outcome.before.get(name), outcome.after.get(name)
    return (float(before), float(after)) if is_number(before) and is_number(after) else None


def _describe(name: str, points: Points) -> str:
    values = [value for _, value in points if math.isfinite(value)]
    if len(values) < 2:
        return f"{name} is {values[0]:.2f}." if values else ""
    movement = trend(values, fewest=2) or Trend(values[0], values[-1], 0.0)
    return f"{name} {movement.describe(TOLERANCE)}."


def _too_few(loss: Points) -> str:
    if not loss:
        return "No step was measured, so there is no verdict."
    return f"{_describe('The loss', loss)} There are too few steps for a verdict."


def _numbers(outcome: Outcome) -> dict[str, float | int | None]:
    numbers: dict[str, float | int | None] = {"steps measured": len(outcome.loss)}
    train, evaluation = outcome.train, outcome.eval
    for name, curve in (
        ("loss", outcome.loss),
        ("evaluation loss", outcome.eval_loss),
        ("mean reward", train.get("reward") or ()),
        ("margin", train.get("rewards/margins") or train.get("margin") or ()),
        ("evaluation margin", evaluation.get("rewards/margins") or evaluation.get("margin") or ()),
    ):
        points = [(step, value) for step, value in curve if math.isfinite(value)]
        if not points:
            continue
        numbers[f"{name} at first"] = round(points[0][1], 4)
        numbers[f"{name} at last"] = round(points[-1][1], 4)
        if name == "evaluation loss":
            best_step, best = min(points, key=lambda point: (point[1], point[0]))
            numbers["best evaluation loss"] = round(best, 4)
            numbers["step of the best evaluation"] = int(best_step)
    for when, scores in (("before", outcome.before), ("after", outcome.after)):
        for name, value in scores.items():
            if is_number(value):
                numbers[f"{name} {when}"] = round(float(value), 4)
    return numbers
