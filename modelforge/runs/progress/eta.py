"""Time left: estimated from what a run has done so far, and from a trial run before that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from modelforge.config.methods import METHOD_FACTS
from modelforge.runs.progress.timings import REMEMBERED, StepTimings, StepWindow

# Fewer steps are not representative: the first ones are slower, and rows differ.
FEWEST_STEPS = 3
# Weight of a trial run, in steps of the run itself: the machine may have been busier then.
TRIAL_RUN_STEPS = 4
# An evaluation only runs forward; for an adapter, that is about this share of a training step.
FORWARD_SHARE = 0.4
FINAL_S = 1.0
# Tokens per step predict the time only while their ratio to the expected count is in this range.
TOKEN_RATIO = (0.4, 2.5)


@dataclass(frozen=True)
class Schedule:
    """What a run has planned: steps between evaluations and saves, rows per step and per batch.

    `rows` is None where the number of rows per step is not fixed, as with packing. `stage_costs`
    are FLOPs of the stages of a growing model, for one token in each step, and `stage_steps` their
    steps.
    """

    eval_every: int | None = None
    save_every: int | None = None
    rows: int | None = None
    eval_batch: int = 1
    stage_costs: tuple[float, ...] = ()
    stage_steps: tuple[int, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any], plan: Mapping[str, Any]) -> Schedule:
        """Return the schedule of a run from its record."""
        configured_batch = config.get("per_device_train_batch_size", 1)
        batch = int(plan.get("rank_batch_size") or configured_batch)
        configured = config.get("gradient_accumulation_steps", 4)
        accumulation = int(plan.get("gradient_accumulation_steps") or configured)
        groups = int(plan.get("ranks") or 1) // int(plan.get("sequence_parallel_size") or 1)
        eval_every = plan.get("eval_steps")
        save_every = plan.get("save_steps") or eval_every
        rows: int | None = batch * accumulation * max(1, groups)
        facts = METHOD_FACTS.get(plan.get("method", "sft"))
        if config.get("packing") or (facts is not None and not facts.counts_tokens):
            rows = None
        eval_batch = int(config.get("per_device_eval_batch_size", 1))
        save_every = None if save_every == -1 else save_every
        stages = (plan.get("growing") or {}).get("stages") or ()
        steps = tuple(int(stage.get("steps") or 0) for stage in stages)
        flops = [float(stage.get("flops_per_token") or 0) for stage in stages]
        costs = tuple(count * each for count, each in zip(steps, flops, strict=True))
        return cls(eval_every, save_every, rows, eval_batch, costs, steps)


@dataclass(frozen=True)
class EtaEstimator:
    """Estimates from timings how long a run still takes.

    `trial_run` has the data of the `trial_run` event of a trial run with the same settings.
    """

    timings: StepTimings
    schedule: Schedule
    trial_run: Mapping[str, Any] | None = None

    def seconds_left(self, now: float | None = None) -> float | None:
        """Return the seconds until the run ends, or None when unknown.

        They count from `now`, or from the newest event when it is None.
        """
        if self.timings.is_over:
            return None
        seconds = self._seconds_left()
        if seconds is None or now is None:
            return seconds
        return max(0.0, seconds - max(0.0, now - self.timings.updated))

    def phase_seconds_left(self) -> float | None:
        """Return the seconds until the current phase ends, or None when unknown."""
        phase = self.timings.phase
        if self.timings.is_over or phase.total is None:
            return None
        if phase.name == "training":
            return self._training()
        if phase.done <= phase.first:
            return None
        per_unit = (self.timings.updated - phase.began) / (phase.done - phase.first)
        return per_unit * max(0, phase.total - phase.done)

    def _seconds_left(self) -> float | None:
        timings = self.timings
        if timings.phase.name == "merging":
            return self.phase_seconds_left()
        if timings.total_steps is None:
            return self._whole_run()
        later = self._later_stages()
        training = self._training()
        if training is None or later is None:
            return None
        training += later
        seconds = training + self._evaluating() + self._sampling() + self._saving()
        if timings.step >= timings.total_steps and timings.phase.name == "saving":
            seconds -= timings.updated - timings.phase.began
        return max(0.0, seconds + self._scoring())

    def _later_stages(self) -> float | None:
        """Return the seconds of steps and evaluations of later stages; None where unknown."""
        timings, costs = self.timings, self.schedule.stage_costs
        number, count = timings.stages or (1, 1)
        if number >= count:
            return 0.0
        windows = list(timings.windows)
        steps = sum(window.steps for window in windows)
        if len(costs) != count or not costs[number - 1] or not steps:
            return None
        stage = sum(window.seconds for window in windows) / steps * (timings.total_steps or 0)
        every, later = self.schedule.eval_every, self.schedule.stage_steps[number:]
        # A stage that is shorter than the interval is evaluated at its end.
        evaluations = sum(steps // min(every, steps) for steps in later if steps) if every else 0
        training = stage / costs[number - 1] * sum(costs[number:])
        return training + evaluations * self._one_evaluation()

    def _whole_run(self) -> float | None:
        """Return the seconds left of a run whose training has not begun."""
        timings, seconds = self.timings, self._tried("seconds")
        if seconds is None or timings.started is None:
            return None
        return max(0.0, seconds - (timings.updated - timings.started))

    def _training(self) -> float | None:
        """Return the seconds of all steps to come."""
        timings = self.timings
        steps = max(0, (timings.total_steps or 0) - timings.step)
        if steps == 0:
            return 0.0
        windows = list(timings.windows)
        tried = self._tried("seconds_per_update")
        if timings.stages is not None and timings.stages[1] > 1:
            tried = None  # it is that of the last stage
        measured_steps = sum(window.steps for window in windows)
        if measured_steps < FEWEST_STEPS:
            return None if tried is None else tried * steps
        if FEWEST_STEPS < len(windows) < REMEMBERED:
            windows = windows[1:]  # the first one is slower
        seconds = self._extrapolated(windows, steps)
        if tried is None:
            return seconds
        weight = sum(window.steps for window in windows) ** 2
        trial_weight = TRIAL_RUN_STEPS**2
        return (seconds * weight + tried * steps * trial_weight) / (weight + trial_weight)

    def _extrapolated(self, windows: Sequence[StepWindow], steps: int) -> float:
        """Return the seconds of that many steps, from a cost per step and one per token."""
        all_steps = sum(window.steps for window in windows)
        all_tokens = sum(window.tokens for window in windows)
        all_seconds = sum(window.seconds for window in windows)
        by_steps = all_seconds / all_steps * steps
        tokens_left = self._tokens_left(all_tokens / all_steps, steps)
        if tokens_left is None or len(windows) < FEWEST_STEPS:
            return by_steps
        # Least squares fit of seconds = a * steps + b * tokens, by its two normal equations.
        nn = sum(window.steps**2 for window in windows)
        tt = sum(window.tokens**2 for window in windows)
        nt = sum(window.steps * window.tokens for window in windows)
        ny = sum(window.steps * window.seconds for window in windows)
        ty = sum(window.tokens * window.seconds for window in windows)
        determinant = nn * tt - nt * nt
        by_tokens = all_seconds / max(1.0, all_tokens) * tokens_left
        if determinant <= 1e-6 * nn * tt:
            return by_tokens
        per_step = (ny * tt - ty * nt) / determinant
        per_token = (ty * nn - ny * nt) / determinant
        if per_step < 0:
            return by_tokens
        return by_steps if per_token < 0 else per_step * steps + per_token * tokens_left

    def _tokens_left(self, tokens_per_step: float, steps: int) -> float | None:
        """Return the tokens of the steps to come, or None when it is unknown."""
        plan, rows_per_step = self.timings.plan, self.schedule.rows
        total = self.timings.total_steps
        if plan is None or not plan.all_tokens or not plan.train_rows:
            return None
        if rows_per_step is None or total is None or not tokens_per_step:
            return None
        expected = plan.all_tokens / plan.train_rows * rows_per_step
        if not TOKEN_RATIO[0] < tokens_per_step / expected < TOKEN_RATIO[1]:
            return None
        if total * rows_per_step >= 0.9 * plan.train_rows:
            # Every row is used once per epoch: what was not trained on yet is still to come.
            return max(0.0, expected * total - self.timings.tokens)
        return expected * steps

    def _scoring(self) -> float:
        """Return the seconds of generating and scoring answers at the end."""
        timings, phase = self.timings, self.timings.phase
        whole = self._tried("score_seconds") or 0.0
        if phase.name == "scoring" and phase.total is not None:
            left = self.phase_seconds_left()
            return max(0.0, whole - (timings.updated - phase.began)) if left is None else left
        is_past = timings.step >= (timings.total_steps or 0) and phase.name == "saving"
        return 0.0 if is_past else whole

    def _evaluating(self) -> float:
        """Return the seconds of all evaluations to come."""
        timings, every = self.timings, self.schedule.eval_every
        if not every or (timings.plan is not None and timings.plan.eval_rows == 0):
            return 0.0
        times = (timings.total_steps or 0) // every - timings.evaluated // every
        if times <= 0:
            return 0.0
        seconds = self._one_evaluation() * times
        if timings.phase.name == "evaluating":
            seconds -= min(timings.updated - timings.phase.began, self._one_evaluation())
        return seconds

    def _one_evaluation(self) -> float:
        timings = self.timings
        if timings.evaluation_seconds:
            return float(median(timings.evaluation_seconds[-5:]))
        rows = (timings.plan.eval_rows if timings.plan else None) or 0
        batch = self._tried("seconds_per_eval_batch")
        if batch:
            return batch * -(-rows // self.schedule.eval_batch)
        if not timings.windows or not self.schedule.rows:
            return 0.0
        step = fmean(window.seconds / window.steps for window in timings.windows)
        return step * FORWARD_SHARE * rows / self.schedule.rows

    def _sampling(self) -> float:
        """Return the seconds of answering the sample prompts at evaluations and at the end."""
        timings, every, total = self.timings, self.schedule.eval_every, self.timings.total_steps
        if timings.sample_seconds:
            once = float(median(timings.sample_seconds[-5:]))
        else:
            once = self._tried("sample_seconds") or 0.0
        if not once or not total or timings.sampled >= total:
            return 0.0
        has_evaluations = every and (timings.plan is None or timings.plan.eval_rows != 0)
        interval = min(every or total, total) if has_evaluations else total
        times = -(-total // interval) - max(0, timings.sampled) // interval
        spent = timings.updated - timings.phase.began if timings.phase.name == "sampling" else 0.0
        return max(0.0, times * once - min(spent, once))

    def _saving(self) -> float:
        """Return the seconds of all checkpoints to come and of the output."""
        timings, every = self.timings, self.schedule.save_every
        total = timings.total_steps or 0
        times = (total // every - timings.saved // every) if every else 0
        if timings.saved < total and (not every or total % every):
            times += 1
        if timings.save_seconds:
            one = float(median(timings.save_seconds[-5:]))
        else:
            one = self._tried("save_seconds") or 0.0
        return max(0, times) * one + (self._tried("final_seconds") or one or FINAL_S)

    def _tried(self, name: str) -> float | None:
        """Return a number of the trial run; None without one, or once it no longer applies."""
        if self.trial_run is None or self.timings.is_adjusted:
            return None
        value = self.trial_run.get(name)
        return float(value) if isinstance(value, int | float) else None
