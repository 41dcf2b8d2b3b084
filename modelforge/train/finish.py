"""Finish a run: save the result and merge it, or stop with or without it."""

from __future__ import annotations

import shutil
import time
from typing import Any

from modelforge.runs.event_types import FinishedEvent, StoppedEvent
from modelforge.train import save
from modelforge.train.callbacks.reporter import TrainingProgress
from modelforge.train.job import WorkerContext
from modelforge.train.merge import merge_result
from modelforge.train.trainer.private import load_best_model


def finish(
    context: WorkerContext,
    trainer: Any,
    progress: TrainingProgress,
    began: float,
    *,
    stage: int | None = None,
    earlier: int = 0,
) -> None:
    """Save the output and write the ending event.

    Args:
        context: the job and its log.
        trainer: what has the trained model.
        progress: how far the training came.
        began: a `time.monotonic()` value.
        stage: the stage of a growing model that was trained last.
        earlier: the steps of the stages before, which count for the run.
    """
    if not progress.is_complete:
        _finish_stopped(context, trainer, progress, stage)
        return
    _save_output(context, trainer, progress, earlier)
    merged = merge_result(context, trainer) if context.is_main else None
    if context.stop.mode == "discard":
        _finish_stopped(context, trainer, progress, stage)
        return
    steps = earlier + progress.step
    event = FinishedEvent(
        steps=steps,
        seconds=round(time.monotonic() - began, 1),
        output=context.job.run.output.name,
        merged=merged,
        loss=progress.loss,
        eval_loss=progress.best_loss,
        eval_bits_per_byte=progress.best_bits_per_byte,
        best_step=None if progress.best_step is None else earlier + progress.best_step,
    )
    context.log.end(event, f"Finished after {steps:,} steps.")


def _finish_stopped(
    context: WorkerContext, trainer: Any, progress: TrainingProgress, stage: int | None
) -> None:
    run, log = context.job.run, context.log
    if context.stop.mode == "discard" or progress.step == 0:
        # The output may be of an earlier worker of this run.
        for folder in (run.checkpoints, run.output, run.merged) if context.is_main else ():
            shutil.rmtree(folder, ignore_errors=True)
        text = f"Stopped at step {progress.step:,}; nothing is kept."
        log.end(StoppedEvent(step=progress.step, kept=False, stage=stage), text)
        return
    # The newest weights are the best while the evaluation loss still falls.
    best_step = None if progress.best_step == progress.eval_step else progress.best_step
    if best_step is not None:
        load_best_model(trainer)
    _save_output(context, trainer, progress)
    text = f"Stopped at step {progress.step:,}; the trained weights are kept."
    event = StoppedEvent(step=progress.step, kept=True, best_step=best_step, stage=stage)
    log.end(event, text)


def _save_output(
    context: WorkerContext, trainer: Any, progress: TrainingProgress, earlier: int = 0
) -> None:
    job = context.job
    what = "adapter" if job.plan.trains == "adapter" else "model"
    context.log.phase("saving", f"Saving the {what}")
    weights = trainer.whole_weights()
    if not context.is_main:
        return
    steps, loss = earlier + progress.step, progress.best_loss
    save.save(job, trainer, context.log.note, steps=steps, eval_loss=loss, weights=weights)
