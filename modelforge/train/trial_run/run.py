"""Trial run: a few real steps, on the longest rows for the peak and on usual ones for the time."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from modelforge.modeling.generate import GenerationEvaluator
from modelforge.runs.event_types import (
    FinishedEvent,
    PlanEvent,
    StartedEvent,
    TrialRunEvent,
    TrialRunStageEvent,
)
from modelforge.runs.events import iter_events
from modelforge.train import save
from modelforge.train.callbacks.samples import Sampler
from modelforge.train.callbacks.system_stats import peak_gib, synchronized_time
from modelforge.train.job import WorkerContext
from modelforge.train.stop import TrialRunFinished
from modelforge.train.trainer.checkpointing import CheckpointOptions
from modelforge.train.trainer.oom_recovery import BatchSplits, enable_oom_recovery
from modelforge.train.trial_run.rewards import try_reward
from modelforge.train.trial_run.sampling import (
    BatchSample,
    chunks,
    evenly_spaced,
    fit_line,
    row_lengths,
    sample_batches,
)
from modelforge.units import GIB

EVAL_BATCHES = 4
# After this time, in seconds, no further step is begun once a step on usual rows is measured.
TIME_LIMIT_S = 60.0


@dataclass
class StepTimer(TrainerCallback):
    """Times every batch and step in seconds, and ends the trial run on a stop request.

    The first `worst_steps` steps are on the longest rows.
    """

    context: WorkerContext
    worst_steps: int
    total_steps: int
    batch_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    eval_batches: int = 0
    _began: float = field(default_factory=time.perf_counter)
    _step_began: float = 0.0

    def on_step_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Start the clock of a step."""
        self._step_began = self._now()

    def on_substep_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Check for a stop request between two batches."""
        self.context.stop.check()

    def on_step_end(self, _args: Any, state: Any, control: Any, **_kwargs: Any) -> None:
        """Record a step, and end the training when the time limit is reached."""
        now = self._now()
        self.step_seconds.append(now - self._step_began)
        self.context.stop.check()
        report(self.context, "Timing steps", state.global_step, self.total_steps)
        if state.global_step > self.worst_steps and now - self._began > TIME_LIMIT_S:
            control.should_training_stop = True

    def on_prediction_step(self, *_args: Any, **_kwargs: Any) -> None:
        """Count an evaluation batch."""
        self.eval_batches += 1
        self.context.stop.check()

    def attach(self, trainer: Any) -> None:
        """Time the steps of a trainer."""
        training_step = trainer.training_step

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = self._now()
            loss = training_step(*args, **kwargs)
            self.batch_seconds.append(self._now() - began)
            return loss

        trainer.training_step = timed
        trainer.add_callback(self)

    def _now(self) -> float:
        return synchronized_time(self.context.job.plan.device)


def run_trial(
    context: WorkerContext,
    trainer: Any,
    facts: dict[str, Any],
    evaluator: GenerationEvaluator | None = None,
    sampler: Sampler | None = None,
) -> int:
    """Measure a stage of a run with its own trainer, and return the number of steps made.

    `facts` are the fields of the plan event.

    Raises:
        TrialRunFinished: After the last stage, when everything is reported.
    """
    args, before = trainer.args, _seconds_before(context)
    steps_per_epoch = facts.pop("steps_per_epoch")
    accumulation, run_steps = args.gradient_accumulation_steps, _run_steps(args, steps_per_epoch)
    sample = sample_batches(trainer, generates=context.job.plan.facts.generates)
    timer = _begin(context, trainer, facts, sample)
    splits = _train(context, trainer, sample, timer)
    measured = {
        "seconds_per_eval_batch": _eval_batch_seconds(context, trainer, timer),
        **_generation_seconds(context, trainer, evaluator, sampler),
        **_save(context, trainer),
        **_step_seconds(sample, timer, sample.epoch_batches / max(1, steps_per_epoch)),
        **before,
        "updates": len(timer.step_seconds),
        "micro_batch": -(-args.per_device_train_batch_size // splits.train),
        "accumulation": accumulation * splits.train,
        "peak_gib": round(peak_gib(context.job.plan.device), 3),
    }
    if facts.get("stage", 1) < facts.get("stages", 1):
        context.log.write(TrialRunStageEvent(run_updates=run_steps, **measured))
        return len(timer.step_seconds)
    _finish(context, measured, facts.get("stages", 1))
    raise TrialRunFinished


def report(
    context: WorkerContext, text: str, done: int | None = None, total: int | None = None
) -> None:
    """Report the progress of the trial run."""
    context.log.phase("trial_run", text, done=done, total=total)


def _begin(
    context: WorkerContext, trainer: Any, facts: dict[str, Any], sample: BatchSample
) -> StepTimer:
    """Write the plan event, try the reward of a method that generates, and return the timer."""
    total_steps = sample.worst_steps + sample.usual_steps
    context.log.write(PlanEvent(total_steps=total_steps, epochs=0, **facts))
    if sample.rows is None:
        try_reward(context, trainer, facts.get("stage"))
    return StepTimer(context, sample.worst_steps, total_steps)


def _finish(context: WorkerContext, measured: dict[str, Any], stages: int) -> None:
    events = [record.event for record in iter_events(context.job.run.events)]
    earlier = [event for event in events if isinstance(event, TrialRunStageEvent)]
    peak = max([measured["peak_gib"], *(stage.peak_gib for stage in earlier)])
    seconds = sum(
        stage.load_seconds + stage.prepare_seconds + stage.run_updates * stage.seconds_per_update
        for stage in earlier
    )
    measured |= {"peak_gib": peak, "earlier_seconds": round(seconds, 2), "stages": stages}
    event = TrialRunEvent(**measured)
    context.log.write(event)
    peak, seconds = event.peak_gib, event.seconds_per_update
    text = f"Trial run: {peak:.2f} GiB at most, {seconds:.2f} s per step."
    context.log.end(FinishedEvent(steps=event.updates, trial_run=True), text)


def _train(
    context: WorkerContext, trainer: Any, sample: BatchSample, timer: StepTimer
) -> BatchSplits:
    """Train on the sampled batches; return how batches were split to fit in memory."""
    args, job = trainer.args, context.job
    args.max_steps = timer.total_steps
    args.gradient_accumulation_steps = sample.accumulation
    args.eval_strategy, args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    args.load_best_model_at_end = args.eval_on_start = False
    if sample.rows is not None:
        args.train_sampling_strategy = "sequential"
        trainer.train_dataset = trainer.train_dataset.select(sample.rows)
    timer.attach(trainer)
    recovers = job.config.memory.autopilot
    splits = enable_oom_recovery(trainer, context.log.write) if recovers else {}
    trainer.keep_checkpoints(CheckpointOptions(job.run, job.plan, 1, None, context.log.note))
    report(context, "Timing steps", 0, timer.total_steps)
    trainer.train()
    return splits.get("portions") or BatchSplits(context.log.write)


def _eval_batch_seconds(context: WorkerContext, trainer: Any, timer: StepTimer) -> float | None:
    """Evaluate the longest rows for the peak, then usual ones; return the seconds per batch."""
    rows = trainer.eval_dataset
    if rows is None or len(rows) == 0:
        return None
    report(context, "Timing an evaluation")
    batch = trainer.args.per_device_eval_batch_size
    # The metrics of question answering need all rows.
    trainer.compute_metrics = None
    lengths = row_lengths(rows, context.job.plan.max_length)
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    trainer.evaluate(rows.select(order[-batch:]))
    usual = evenly_spaced(chunks(order, batch), EVAL_BATCHES)
    timer.eval_batches, began = 0, time.perf_counter()
    trainer.evaluate(rows.select([row for rows_of_batch in usual for row in rows_of_batch]))
    return round((time.perf_counter() - began) / max(1, timer.eval_batches), 4)


def _generation_seconds(
    context: WorkerContext,
    trainer: Any,
    evaluator: GenerationEvaluator | None,
    sampler: Sampler | None,
) -> dict[str, float | None]:
    """Return the seconds of scoring at the end, and of answering the sample prompts once."""
    scored = None
    if evaluator is not None:
        seconds = evaluator.estimate_seconds(context.generation_progress("trial_run"))
        scored = round(seconds, 2)
    sampled = sampler.measure(trainer.model) if sampler is not None else None
    return {"score_seconds": scored, "sample_seconds": sampled}


def _save(context: WorkerContext, trainer: Any) -> dict[str, float]:
    """Time saving a checkpoint and the output, and delete both."""
    run = context.job.run
    report(context, "Timing a save")
    began = time.perf_counter()
    trainer.save_now()
    checkpoint_saved = time.perf_counter()
    size = sum(path.stat().st_size for path in run.checkpoints.rglob("*") if path.is_file())
    save.save(context.job, trainer, context.log.note, steps=1)
    output_saved = time.perf_counter()
    for folder in (run.checkpoints, run.output, run.output_staged):
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "save_seconds": round(checkpoint_saved - began, 3),
        "final_seconds": round(output_saved - checkpoint_saved, 3),
        "checkpoint_gib": round(size / GIB, 4),
    }


def _step_seconds(sample: BatchSample, timer: StepTimer, accumulation: float) -> dict[str, Any]:
    """Return the expected seconds of a step of the run, which has `accumulation` batches."""
    if sample.rows is None:
        return {
            "seconds_per_update": round(timer.step_seconds[-1], 4),
            "seconds_per_update_worst": round(max(timer.step_seconds), 4),
            "tokens_per_s": None,
        }
    per_step, seconds = sample.accumulation, timer.batch_seconds
    # The first batch is slow, since libraries initialize themselves.
    per_batch, per_token = fit_line(sample.sizes[1 : len(seconds)], seconds[1:])
    overhead = [
        whole - sum(seconds[step * per_step : (step + 1) * per_step])
        for step, whole in enumerate(timer.step_seconds)
    ]
    mean_overhead = sum(overhead[1:]) / max(1, len(overhead) - 1)
    usual = per_batch + per_token * sample.mean_size
    worst = max(seconds[per_step : sample.worst_steps * per_step], default=max(seconds))
    return {
        "seconds_per_update": round(accumulation * usual + mean_overhead, 4),
        "seconds_per_update_worst": round(accumulation * worst + mean_overhead, 4),
        "tokens_per_s": round(sample.mean_tokens / max(1e-9, usual), 2),
    }


def _run_steps(args: Any, steps_per_epoch: int) -> int:
    if args.max_steps > 0:
        return int(args.max_steps)
    return math.ceil(args.num_train_epochs * steps_per_epoch)


def _seconds_before(context: WorkerContext) -> dict[str, float]:
    """Return the seconds before the first step of this stage: loading models, and the rest."""
    kinds = (StartedEvent.kind, TrialRunStageEvent.kind)
    starts = [r.t for r in iter_events(context.job.run.events) if r.kind in kinds]
    elapsed = time.time() - starts[-1] if starts else 0.0
    loading = sum(context.load_seconds)
    context.load_seconds.clear()
    return {
        "load_seconds": round(loading, 3),
        "prepare_seconds": round(max(0.0, elapsed - loading), 3),
    }
