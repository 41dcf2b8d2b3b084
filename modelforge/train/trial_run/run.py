"""A few real updates before a run: the longest rows for the peak, usual ones for the time."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from modelforge.modeling.generate import GenerationEvaluator
from modelforge.runs.event_types import (
    FinishedEvent,
    PhaseEvent,
    PlanEvent,
    StartedEvent,
    TrialRunEvent,
    TrialRunStageEvent,
)
from modelforge.runs.events import iter_events
from modelforge.train import save
from modelforge.train.callbacks.system_stats import peak_gib
from modelforge.train.job import WorkerContext
from modelforge.train.stop import TrialRunFinished
from modelforge.train.trainer.checkpointing import CheckpointOptions
from modelforge.train.trainer.oom_recovery import BatchSplits, enable_oom_recovery
from modelforge.train.trial_run.sampling import Program, chunks, line, program, row_lengths, spread
from modelforge.units import GIB

CHECKED = 4
# Once an update on usual rows is measured, no more are begun after so many seconds.
ENOUGH_S = 60.0


@dataclass
class StepTimer(TrainerCallback):
    """Measures every batch and every update, and ends the rehearsal when somebody wants it to."""

    context: WorkerContext
    usual_from: int
    total: int
    batches: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    mark: float = 0.0
    checked: int = 0

    def on_step_begin(self, *_args: Any, **_more: Any) -> None:
        """Begin an update."""
        self.mark = time.perf_counter()

    def on_substep_end(self, *_args: Any, **_more: Any) -> None:
        """Leave between two batches when that is wished."""
        self.context.stop.check()

    def on_step_end(self, _args: Any, state: Any, control: Any, **_more: Any) -> None:
        """End an update; with enough measured it was the last."""
        self.updates.append(time.perf_counter() - self.mark)
        self.context.stop.check()
        tell(self.context, "Rehearsing updates", state.global_step, self.total)
        measured = state.global_step > self.usual_from
        if measured and time.perf_counter() - self.began > ENOUGH_S:
            control.should_training_stop = True

    def on_prediction_step(self, *_args: Any, **_more: Any) -> None:
        """Leave a check when that is wished."""
        self.checked += 1
        self.context.stop.check()

    def attach(self, trainer: Any) -> None:
        """Watch a trainer."""
        step = trainer.training_step

        def timed(*args: Any, **more: Any) -> Any:
            began = time.perf_counter()
            found = step(*args, **more)
            self.batches.append(time.perf_counter() - began)
            return found

        trainer.training_step = timed
        trainer.add_callback(self)


def rehearse(
    context: WorkerContext,
    trainer: Any,
    facts: dict[str, Any],
    answers: GenerationEvaluator | None = None,
) -> int:
    """Measure a training that is about to begin, and return how many updates were made.

    `facts` are those of its plan, `answers` what follows the training. With the last stage all is
    told, and RehearsalOver raised.
    """
    job, args = context.job, trainer.args
    before = _before(context)
    each_epoch = facts.pop("steps_per_epoch")
    accumulation, updates = args.gradient_accumulation_steps, _updates(args, each_epoch)
    played = program(trainer, generates=job.plan.facts.generates)
    total = played.worst + played.usual
    context.log.plan(PlanEvent(total_steps=total, epochs=0, **facts))
    timings = StepTimer(context, played.worst, total)
    batch_splits = _play(context, trainer, played, timings)
    check_s = _check(context, trainer, timings)
    kept = _save(context, trainer)
    made = len(timings.updates)
    told = _told(played, timings, played.batches / max(1, each_epoch)) | {
        "seconds_per_eval_batch": check_s,
        "score_seconds": _generation_seconds(context, answers) if answers else None,
        **kept,
        **before,
        "updates": made,
        "micro_batch": -(-args.per_device_train_batch_size // batch_splits.train),
        "accumulation": accumulation * batch_splits.train,
        "peak_gib": round(peak_gib(job.plan.device), 3),
    }
    stages = facts.get("stages", 1)
    if facts.get("stage", 1) < stages:
        context.log.measured(TrialRunStageEvent(run_updates=updates, **told))
        return made
    _end(context, told, stages)
    raise TrialRunFinished


def tell(
    context: WorkerContext, text: str, done: int | None = None, total: int | None = None
) -> None:
    """Tell which part of the rehearsal goes on."""
    context.log.phase("trial_run", text, done=done, total=total)


def _end(context: WorkerContext, told: dict[str, Any], stages: int) -> None:
    records = iter_events(context.job.run.events)
    events = [record.event for record in records if record.kind == TrialRunStageEvent.kind]
    earlier = [event for event in events if isinstance(event, TrialRunStageEvent)]
    peak = max([told["peak_gib"], *(stage.peak_gib for stage in earlier)])
    seconds = sum(
        stage.load_seconds + stage.prepare_seconds + stage.run_updates * stage.seconds_per_update
        for stage in earlier
    )
    told |= {"peak_gib": peak, "earlier_seconds": round(seconds, 2), "stages": stages}
    event = TrialRunEvent(**told)
    context.log.measured(event)
    context.log.line(
        f"Trial run: {event.peak_gib:.2f} GiB at most, {event.seconds_per_update:.2f} s per step."
    )
    context.log.end(FinishedEvent(steps=event.updates, trial_run=True))


def _generation_seconds(context: WorkerContext, answers: GenerationEvaluator) -> float:
    return round(answers.estimate_seconds(context.generation_progress("trial_run")), 2)


def _play(context: WorkerContext, trainer: Any, score: Program, timings: StepTimer) -> BatchSplits:
    """Make the updates of a rehearsal with the run's own trainer."""
    args, job = trainer.args, context.job
    args.max_steps = score.worst + score.usual
    args.gradient_accumulation_steps = score.added_up
    args.eval_strategy, args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    args.load_best_model_at_end = args.eval_on_start = False
    if score.rows is not None:
        args.train_sampling_strategy = "sequential"
        trainer.train_dataset = trainer.train_dataset.select(score.rows)
    timings.attach(trainer)
    living = enable_oom_recovery(trainer, context.log.adjusted) if _goes_on(context) else {}
    trainer.keep_checkpoints(CheckpointOptions(job.run, 1, None, context.log.note))
    tell(context, "Rehearsing updates", 0, timings.total)
    trainer.train()
    return living.get("portions") or BatchSplits(context.log.adjusted)


def _goes_on(context: WorkerContext) -> bool:
    return context.job.config.memory.autopilot


def _check(context: WorkerContext, trainer: Any, timings: StepTimer) -> float | None:
    """Check on the longest held-out rows, then on usual ones; return the seconds of a batch."""
    rows = trainer.eval_dataset
    if rows is None or len(rows) == 0:
        return None
    tell(context, "Rehearsing a check")
    batch = trainer.args.per_device_eval_batch_size
    # What is told of answers needs every row.
    trainer.compute_metrics = None
    order = sorted(range(len(rows)), key=row_lengths(rows, context.job.plan.max_length).__getitem__)
    trainer.evaluate(rows.select(order[-batch:]))
    usual = spread(list(chunks(order, batch)), CHECKED)
    timings.checked, began = 0, time.perf_counter()
    trainer.evaluate(rows.select([row for each in usual for row in each]))
    return round((time.perf_counter() - began) / max(1, timings.checked), 4)


def _save(context: WorkerContext, trainer: Any) -> dict[str, float]:
    """Save a checkpoint and what a run keeps in the end, and throw both away."""
    run = context.job.run
    tell(context, "Rehearsing a save")
    began = time.perf_counter()
    trainer.save_now()
    saved = time.perf_counter()
    size = _size(run.checkpoints)
    save.save(
        run,
        trainer.model,
        trainer.processing_class,
        save.CardInfo.of_job(context.job, steps=1),
        trainer.adapter_init,
    )
    kept = time.perf_counter()
    for folder in (run.checkpoints, run.output, run.output_staged):
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "save_seconds": round(saved - began, 3),
        "final_seconds": round(kept - saved, 3),
        "checkpoint_gib": round(size / GIB, 4),
    }


def _told(score: Program, timings: StepTimer, accumulation: float) -> dict[str, Any]:
    """Return the seconds of an update of the run, worked out from those of the batches played."""
    if score.rows is None:
        return {
            "seconds_per_update": round(timings.updates[-1], 4),
            "seconds_per_update_worst": round(max(timings.updates), 4),
            "tokens_per_s": None,
        }
    skipped = score.worst * score.added_up
    seconds, sizes = timings.batches, score.sizes[: len(timings.batches)]
    # The very first batch is slow: libraries are begun with it.
    each, token = line(sizes[1:], seconds[1:])
    spent = [
        whole - sum(seconds[at * score.added_up : (at + 1) * score.added_up])
        for at, whole in enumerate(timings.updates)
    ]
    beside = sum(spent[1:]) / max(1, len(spent) - 1)
    usual_s = each + token * score.mean
    worst_s = max(seconds[score.added_up : skipped], default=max(seconds))
    return {
        "seconds_per_update": round(accumulation * usual_s + beside, 4),
        "seconds_per_update_worst": round(accumulation * worst_s + beside, 4),
        "tokens_per_s": round(score.useful / max(1e-9, usual_s), 2),
    }


def _updates(args: Any, each_epoch: int) -> int:
    return args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * each_epoch)


def _before(context: WorkerContext) -> dict[str, float]:
    """Return the seconds that went by before the first update: of loading, and of all else."""
    records = list(iter_events(context.job.run.events))
    starts = [r.t for r in records if r.kind in (StartedEvent.kind, TrialRunStageEvent.kind)]
    since = starts[-1] if starts else time.time()
    phases = [r for r in records if r.kind == PhaseEvent.kind and r.t >= since]
    load = 0.0
    for phase, following in zip(phases, [*phases[1:], None], strict=True):
        if str(phase.data.get("text", "")).startswith("Loading "):
            load += (following.t if following else time.time()) - phase.t
    return {
        "load_seconds": round(load, 3),
        "prepare_seconds": round(max(0.0, time.time() - since - load), 3),
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
