"""Judge a reward before training with it: the signal within groups, and answers that cheat.

A group is the answers to one prompt, which RLOO and GRPO compare with each other. A group whose
answers all get the same reward has no signal: its gradient is zero, or only that of the KL penalty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, pstdev
from typing import Literal

from modelforge.diagnosis.intervals import Interval, share_interval

# Rewards of a group that differ by less than this are equal: rewards are 32-bit numbers.
ZERO_SPREAD = 1e-6
# A cheat counts if it gets the reward of expected answers, less this share of the range of rewards.
TOLERANCE = 0.1
# From this share of groups without signal on, the advice is how to have fewer.
MANY_WITHOUT_SIGNAL = 0.5
LOWEST_OF_RULES, HIGHEST_OF_RULES = 0.0, 1.0

Kind = Literal["constant", "impossible", "cheatable", "fair"]
# The answers that try to cheat, with a label and what the sentence of a verdict calls them.
CHEATS = {
    "empty": ("Empty answer", "An empty answer"),
    "copied": ("Prompt copied", "A copy of the prompt"),
    "repeated": ("One word repeated", "One word, repeated,"),
    "longest": ("Longest answer, off topic", "A text of the longest allowed length, off topic,"),
}


@dataclass(frozen=True)
class RewardSample:
    """What a reward trial has measured.

    Attributes:
        groups: The rewards of each group of sampled answers.
        identical: Number of groups whose answers are all the same text.
        cheats: By the name of the cheat, its variants: the reward of a variant for the prompt of
            the first group, the second and so on; None where it is the expected answer.
        expected: The rewards of the expected answers of the rows, where there are any; cut at the
            longest completion.
        cut: How many of these answers are cut.
        is_rule: Whether the reward is a rule, from 0 to 1, and not a reward model.
    """

    groups: Sequence[Sequence[float]]
    identical: int
    cheats: Mapping[str, Sequence[Sequence[float | None]]]
    expected: Sequence[float]
    cut: int
    is_rule: bool


@dataclass(frozen=True)
class RewardVerdict:
    """A verdict with its sentence and advice, and the numbers behind it.

    Attributes:
        no_signal: Number of groups without signal.
        interval: 95 % interval of the share of such groups.
        spread: Mean over the groups of the standard deviation of the rewards.
        best: Mean over the groups of the highest reward.
        expected: Mean reward of the expected answers; None if there are none.
        cheats: The mean reward of each cheat, of its variant that gets most.
    """

    kind: Kind
    sentence: str
    advice: str
    no_signal: int
    interval: Interval
    mean: float
    spread: float
    best: float
    expected: float | None
    cheats: dict[str, float]


@dataclass(frozen=True)
class _Cheat:
    """A cheat that gets as much as the best answers: its reward, and theirs to the same prompts."""

    name: str
    reward: float
    best: float


def has_signal(rewards: Sequence[float]) -> bool:
    """Return whether the rewards of a group differ; those that are not finite do not count."""
    finite = [reward for reward in rewards if isfinite(reward)]
    return bool(finite) and max(finite) - min(finite) > ZERO_SPREAD


def judge_reward(sample: RewardSample) -> RewardVerdict:
    """Return the verdict on a reward.

    Raises:
        ValueError: There is no group with a finite reward.
    """
    groups = [[each for each in group if isfinite(each)] for group in sample.groups]
    groups = [group for group in groups if group]
    if not groups:
        raise ValueError("no group has a finite reward")
    no_signal, count = sum(not has_signal(group) for group in sample.groups), len(sample.groups)
    interval = share_interval(no_signal, count) or Interval(0.0, 1.0)
    if no_signal == count:
        kind, sentence, advice = _without_signal(sample, groups)
    elif (cheat := _best_cheat(sample, groups)) is not None:
        kind, sentence, advice = _cheatable(sample, cheat)
    else:
        kind, sentence, advice = _fair(no_signal / count)
    return RewardVerdict(
        kind,
        sentence,
        advice,
        no_signal,
        interval,
        mean=fmean(reward for group in groups for reward in group),
        spread=fmean(pstdev(group) for group in groups),
        best=fmean(max(group) for group in groups),
        expected=_mean(sample.expected),
        cheats={
            name: max(means)
            for name, variants in sample.cheats.items()
            if (means := [mean for each in variants if (mean := _mean(each)) is not None])
        },
    )


def _without_signal(
    sample: RewardSample, groups: Sequence[Sequence[float]]
) -> tuple[Kind, str, str]:
    count = "1 group" if len(groups) == 1 else f"{len(groups):,} groups"
    answers = f"the {sum(map(len, groups)):,} answers in {count}"
    highest = max(max(group) for group in groups)
    expected = _mean(sample.expected)
    if sample.is_rule and highest <= LOWEST_OF_RULES + ZERO_SPREAD:
        return "impossible", f"None of {answers} got a reward.", _advice_if_impossible(sample)
    if not sample.is_rule and expected is not None and expected > highest + ZERO_SPREAD:
        sentence = (
            f"All of {answers} got {highest:.2f} at most, and the answers to one prompt got the "
            f"same; the expected answers get {expected:.2f}."
        )
        return "impossible", sentence, _advice_if_impossible(sample)
    return _constant(sample, groups, answers, highest)


def _constant(
    sample: RewardSample, groups: Sequence[Sequence[float]], answers: str, highest: float
) -> tuple[Kind, str, str]:
    is_one_value = highest - min(min(group) for group in groups) <= ZERO_SPREAD
    if is_one_value:
        sentence = f"All of {answers} got the same reward, {highest:.2f}: nothing to compare."
    else:
        sentence = f"In none of the {len(groups):,} groups did two answers get different rewards."
    if sample.identical == len(groups):
        advice = (
            "All answers of a group are the same text. Raise the temperature, so that they differ."
        )
    elif sample.is_rule and is_one_value and highest >= HIGHEST_OF_RULES - ZERO_SPREAD:
        advice = "Every answer has the full reward already. Choose a reward that demands more."
    else:
        advice = "Choose a reward that gives better answers more than worse ones."
    return "constant", sentence, advice


def _advice_if_impossible(sample: RewardSample) -> str:
    if 2 * sample.cut > len(sample.expected):
        return (
            f"{sample.cut:,} of {len(sample.expected):,} expected answers are longer than the "
            "longest completion. Raise the max completion length."
        )
    expected = _mean(sample.expected)
    if sample.is_rule and expected is not None and expected <= LOWEST_OF_RULES + ZERO_SPREAD:
        return "The expected answers of the rows get no reward either. Correct the reward."
    return (
        "Train on the answers first (sft), use prompts that the model sometimes answers rightly, "
        "or choose a reward that also counts what is partly right."
    )


def _best_cheat(sample: RewardSample, groups: Sequence[Sequence[float]]) -> _Cheat | None:
    """Return the cheat that gets most of those that training would lead to, or None."""
    rewards = [reward for group in groups for reward in group] + list(sample.expected)
    slack = TOLERANCE * (max(rewards) - min(rewards))
    expected = _mean(sample.expected)
    found = []
    finite = [[each for each in group if isfinite(each)] for group in sample.groups]
    for name, variants in sample.cheats.items():
        for variant in variants:
            pairs = [
                (reward, group)
                for reward, group in zip(variant, finite, strict=False)
                if reward is not None and isfinite(reward) and group
            ]
            if not pairs:
                continue
            reward = fmean(reward for reward, _group in pairs)
            best = fmean(max(group) for _reward, group in pairs)
            usual = fmean(fmean(group) for _reward, group in pairs)
            is_expected = expected is not None and reward < expected - slack
            if reward > usual + ZERO_SPREAD and reward >= best - ZERO_SPREAD and not is_expected:
                found.append(_Cheat(name, reward, best))
    return max(found, key=lambda cheat: cheat.reward, default=None)


def _cheatable(sample: RewardSample, cheat: _Cheat) -> tuple[Kind, str, str]:
    _label, words = CHEATS[cheat.name]
    sentence = (
        f"{words} gets {cheat.reward:.2f}; the best of the model's own answers to the same "
        f"prompts get {cheat.best:.2f}."
    )
    if sample.is_rule:
        advice = (
            "Training leads to such answers. Choose a reward that gives them less: a stricter "
            "pattern, exact-match, or a reward model."
        )
    else:
        advice = (
            "Training leads to such answers. Use a reward model that was trained on pairs in "
            "which such answers are the rejected ones, or a rule."
        )
    return "cheatable", sentence, advice


def _fair(share: float) -> tuple[Kind, str, str]:
    sentence = (
        "Answers to the same prompt get different rewards, and no cheat that was tried gets as "
        "much as the model's best answers."
    )
    if share >= MANY_WITHOUT_SIGNAL:
        advice = (
            "Many groups have no signal. More completions per prompt, a higher temperature, or "
            "prompts that are neither too easy nor too hard leave fewer of them."
        )
    else:
        advice = "Nothing needs to change before the run."
    return "fair", sentence, advice


def _mean(rewards: Sequence[float | None]) -> float | None:
    finite = [reward for reward in rewards if reward is not None and isfinite(reward)]
    return fmean(finite) if finite else None
