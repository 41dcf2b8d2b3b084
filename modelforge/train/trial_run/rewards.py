"""Reward trial: sample groups before the first step, and score answers that cheat."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from math import isfinite
from typing import Any

from modelforge.diagnosis.reward_trial import RewardSample, judge_reward
from modelforge.modeling.reward_rules import exact_match
from modelforge.runs.event_types import RewardTrialEvent
from modelforge.train.job import WorkerContext
from modelforge.train.trainer.private import reward_completions, sample_completions
from modelforge.train.trainer.state import preserve_rng

# No further groups are sampled, and no further cheats tried, after these seconds.
SAMPLING_LIMIT_S, CHEATS_LIMIT_S = 60.0, 20.0
MAX_GROUPS, MAX_CHEATED = 200, 32
WORD = "the"
# One word is repeated this many times, as far as it is allowed.
REPETITIONS = (1, 4, 16, 64, 256, 1024)
SEED = 0

Row = dict[str, str]


def try_reward(context: WorkerContext, trainer: Any, stage: int | None) -> None:
    """Measure the run's reward on some prompts, and write the event with the verdict.

    The weights are those before the first step. Nothing is measured in a stage after another one:
    its reward model comes from a few steps of the trial run and says nothing of the run.
    """
    if stage is not None:
        text = (
            "The reward was not tried: its model is trained in the run itself. A run with the "
            "finished reward model as its reward model (trainer.reward_model) has a reward trial."
        )
        context.log.note("reward-untried", text)
        return
    began = time.perf_counter()
    with preserve_rng():
        sample = _Trial(context, trainer).measure()
    if not any(isfinite(reward) for group in sample.groups for reward in group):
        text = "The reward was tried: no reward of a sampled answer is a finite number."
        context.log.note("reward-not-finite", text)
        return
    event = _event(sample, trainer.num_generations, time.perf_counter() - began)
    context.log.write(event)


def _event(sample: RewardSample, group_size: int, seconds: float) -> RewardTrialEvent:
    verdict = judge_reward(sample)
    return RewardTrialEvent(
        verdict=verdict.kind,
        sentence=verdict.sentence,
        advice=verdict.advice,
        groups=len(sample.groups),
        group_size=group_size,
        no_signal=verdict.no_signal,
        low=round(verdict.interval.low, 4),
        high=round(verdict.interval.high, 4),
        mean=round(verdict.mean, 6),
        spread=round(verdict.spread, 6),
        best=round(verdict.best, 6),
        expected=None if verdict.expected is None else round(verdict.expected, 6),
        cheats={name: round(reward, 6) for name, reward in verdict.cheats.items()},
        seconds=round(seconds, 2),
    )


class _Trial:
    """The measurement of one reward."""

    def __init__(self, context: WorkerContext, trainer: Any) -> None:
        self._context = context
        self._trainer = trainer
        self._settings = context.job.config.trainer
        self._tokenizer = trainer.processing_class
        self._limit = int(trainer.max_completion_length)
        self._rows: list[Row] = list(trainer.train_dataset)
        order = random.Random(SEED).sample(range(len(self._rows)), len(self._rows))
        self._order = [order[index % len(order)] for index in range(MAX_GROUPS)]
        self._cheats: dict[str, list[list[float | None]]] = {}
        self._expected: list[float] = []
        self._cut = 0

    def measure(self) -> RewardSample:
        """Return the rewards of sampled groups, of cheats and of expected answers."""
        groups, identical = self._sample()
        self._try_cheats(min(MAX_CHEATED, len(groups), len(self._rows)))
        return RewardSample(
            groups,
            identical,
            self._cheats,
            self._expected,
            self._cut,
            is_rule=self._settings.reward != "model",
        )

    def _sample(self) -> tuple[list[list[float]], int]:
        size = self._trainer.num_generations
        per_batch = max(1, self._trainer.args.generation_batch_size // size)
        groups: list[list[float]] = []
        identical, began = 0, time.perf_counter()
        for start in range(0, MAX_GROUPS, per_batch):
            self._progress("Sampling answers for the reward", len(groups), MAX_GROUPS)
            chosen = self._order[start : start + per_batch]
            rows = [self._rows[index] for index in chosen for _ in range(size)]
            ids = sample_completions(self._trainer, [row["prompt"] for row in rows])
            texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
            rewards = reward_completions(self._trainer, rows, texts, ids)
            for first in range(0, len(rows), size):
                groups.append(rewards[first : first + size])
                identical += len(set(texts[first : first + size])) == 1
            if time.perf_counter() - began > SAMPLING_LIMIT_S:
                break
        return groups, identical

    def _try_cheats(self, count: int) -> None:
        """Score the cheats and the expected answer for the prompts of the first groups."""
        began = time.perf_counter()
        for place in range(count):
            self._progress("Trying answers that cheat", place, count)
            index = self._order[place]
            row = self._rows[index]
            cheats = [
                (name, number, *self._encode(text))
                for name, texts in self._variants(index).items()
                for number, text in enumerate(texts)
            ]
            texts, ids = [each[2] for each in cheats], [each[3] for each in cheats]
            if row["answer"]:
                text, answer_ids = self._encode(row["answer"])
                texts, ids = [*texts, text], [*ids, answer_ids]
                self._cut += text != row["answer"]
            rewards = reward_completions(self._trainer, [row] * len(texts), texts, ids)
            for (name, number, text, _ids), reward in zip(cheats, rewards, strict=False):
                variants = self._cheats.setdefault(name, [])
                if number == len(variants):
                    variants.append([])
                is_right = row["answer"] and exact_match(text, row["answer"]) == 1
                variants[number].append(None if is_right else reward)
            self._expected += rewards[len(cheats) :]
            if time.perf_counter() - began > CHEATS_LIMIT_S:
                break

    def _variants(self, index: int) -> dict[str, list[str]]:
        """Return the variants of each cheat for a row: as many for every row."""
        settings = self._settings
        counts = {count for count in REPETITIONS if count <= self._limit}
        if settings.reward == "length":
            counts.add(settings.reward_words)
        return {
            "empty": ["", "{}"] if settings.reward == "json" else [""],
            "copied": [self._rows[index]["asked"]],
            "repeated": [" ".join([WORD] * count) for count in sorted(counts)],
            "longest": [self._long_text(index)],
        }

    def _long_text(self, index: int) -> str:
        """Return the answers to other prompts, joined until they exceed the longest completion."""
        parts: list[str] = []
        tokens = 0
        for text in self._texts_after(index):
            parts.append(text)
            tokens += len(self._tokenizer(f" {text}", add_special_tokens=False)["input_ids"])
            if tokens > self._limit:
                break
        return " ".join(parts)

    def _texts_after(self, index: int) -> Iterator[str]:
        """Yield the answers, or else the prompts, of the other rows in turn, without end."""
        others = [(index + offset) % len(self._rows) for offset in range(1, len(self._rows))]
        texts = [self._rows[other]["answer"] or self._rows[other]["asked"] for other in others]
        texts = [text for text in texts if text.strip()] or [WORD]
        while True:
            yield from texts

    def _encode(self, text: str) -> tuple[str, list[int]]:
        """Return a text and its tokens with the end token; a long one is cut as a completion is."""
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) < self._limit:
            return text, [*ids, self._trainer.eos_token_ids[0]]
        ids = ids[: self._limit]
        return self._tokenizer.decode(ids, skip_special_tokens=True), ids

    def _progress(self, text: str, done: int, total: int) -> None:
        self._context.stop.check()
        self._context.log.phase("trial_run", text, done=done, total=total)
