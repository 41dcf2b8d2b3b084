"""The training itself, and what becomes of it: finished, or stopped and kept or not."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from modelforge.data.canonical.convert import Canonical
from modelforge.data.chat_templates import template_text
from modelforge.errors import ForgeError
from modelforge.modeling.generate import GenerationEvaluator, GenerationSetup
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate, load_chat_template, stop_ids_of
from modelforge.runs.event_types import FinishedEvent, ScoresEvent, StoppedEvent
from modelforge.runs.layout import RunFolder
from modelforge.train import save
from modelforge.train.callbacks import monitors, trackers
from modelforge.train.callbacks.gpu_limits import GpuLimitCallback, gpu_limits, nvml_sensors
from modelforge.train.callbacks.reporter import EventReporter, TrainingProgress
from modelforge.train.callbacks.system_stats import SystemStats
from modelforge.train.event_log import EventLog
from modelforge.train.job import Job, WorkerContext
from modelforge.train.stop import StopRequested
from modelforge.train.trainer import batch_size
from modelforge.train.trainer.checkpointing import CheckpointOptions, Stateful
from modelforge.train.trainer.oom_recovery import enable_oom_recovery, oom_note
from modelforge.train.trainer.private import load_best_model
from modelforge.train.trial_run import run as rehearsing


@dataclass(frozen=True)
class Stage:
    """One of several trainings of a run: its number from 1, how many there are, and its name."""

    number: int
    of: int
    name: str

    @property
    def facts(self) -> dict[str, Any]:
        """What the plan event says of it."""
        return {"stage": self.number, "stages": self.of, "stage_name": self.name}


def chat_template_for(context: WorkerContext, loaded: Any, generation: Any = None) -> ChatTemplate:
    """Return how turns become text for this model, and teach it where its answers end.

    `generation` is the generation config of a model that has none of its own: one that judges.
    """
    config = context.job.config
    generation = generation or loaded.model.generation_config
    dialect = load_chat_template(
        loaded.tokenizer,
        stop_ids_of(generation),
        template=template_text(config.model.chat_template),
        system_prompt=config.model.system_prompt,
    )
    generation.eos_token_id = sorted(dialect.stop_ids)
    return dialect


def tokenize(context: WorkerContext, dialect: ChatTemplate) -> dataset.Tokenized:
    """Turn the data into tokens."""
    job, log = context.job, context.log
    config = job.config
    manner = TokenizeOptions.from_plan(config, job.plan)
    keep = config.evaluation.generated_rows if config.task != "text-generation" else 0
    order = dataset.DatasetRequest(
        job.dataset, config.eval_split, config.trainer.seed, manner, keep
    )
    tokenized = dataset.tokenize(order, dialect, tokenize_progress(context))
    for code, text in (*dialect.notes, *tokenized.notes):
        log.note(code, text)
    return tokenized


def tokenize_progress(context: WorkerContext) -> Callable[[int, int], None]:
    """Tell that rows become tokens, and which files have changed; return what hears how far."""
    log, text = context.log, "Turning the rows into tokens"
    log.phase("tokenizing", text)
    for name in dataset.changed_files(context.job.dataset):
        log.note("data-changed", f"{name} has changed since the run was checked.")

    def progress(done: int, total: int) -> None:
        context.stop.check()
        log.phase("tokenizing", text, done=done, total=total)

    return progress


def generation_evaluator(
    context: WorkerContext, trainer: Any, rows: Sequence[Canonical], setup: GenerationSetup
) -> GenerationEvaluator | None:
    """Return the evaluator that answers these evaluation rows, or None without a usable row."""
    prompts = setup.prompts(rows)
    if not prompts:
        return None
    summarizes = context.job.config.task == "summarization"
    return GenerationEvaluator(
        trainer, prompts, setup, summarizes, lambda: context.stop.mode is not None
    )


def train_and_finish(
    context: WorkerContext,
    trainer: Any,
    facts: dict[str, Any],
    score: GenerationEvaluator | Callable[[], None] | None = None,
) -> None:
    """Train, save what is to be kept, and tell how it ended: the whole of a run of one stage.

    `score` tells in between what the answers of the trained model are worth.
    """
    began = time.monotonic()
    answers = score if isinstance(score, GenerationEvaluator) else None
    course = train(context, trainer, facts, answers=answers)
    if course.is_complete and score is not None:
        _scored(context, course, score)
    finish(context, trainer, course, began)


def _scored(
    context: WorkerContext,
    course: TrainingProgress,
    score: GenerationEvaluator | Callable[[], None],
) -> None:
    """Score, and lose nothing that was learned if that is stopped or fails."""
    try:
        if isinstance(score, GenerationEvaluator):
            before, after = score.evaluate(context.generation_progress("scoring"))
            rows = len(score.prompts)
            context.log.scores(ScoresEvent(rows=rows, before=before, after=after))
        else:
            score()
    except StopRequested:
        course.is_complete = context.stop.mode != "discard"
    except (RuntimeError, ValueError) as error:  # out of memory is one of these
        first = str(error).strip().split("\n", 1)[0]
        context.log.note("not-scored", f"The held-out rows could not be answered: {first}")


def train(
    context: WorkerContext,
    trainer: Any,
    facts: dict[str, Any],
    stage: Stage | None = None,
    parts: dict[str, Stateful] | None = None,
    answers: GenerationEvaluator | None = None,
) -> TrainingProgress:
    """Train and return how far it came; `course.is_whole` is false when it was stopped.

    `facts` are what the plan event says besides the number of updates; `parts` have a state that
    belongs to a checkpoint. `answers` follow, of which a rehearsal tries a few.
    """
    job = context.job
    number = stage.number if stage else None
    found = context.checkpoint
    begun = str(found.path) if found is not None and found.stage == number else None
    sized = batch_size.set_best_batch_size(context, trainer, Path(begun) if begun else None)
    told = plan_event_data(job, trainer) | facts | (stage.facts if stage else {})
    if job.is_trial_run:
        made = rehearsing.rehearse(context, trainer, told, answers)
        return TrainingProgress(step=made, eval_step=made, is_complete=True)
    reporter = EventReporter(context.log, context.stop, SystemStats(job.plan.device), told, number)
    trainer.add_callback(reporter)
    living = enable_oom_recovery(trainer, context.log.adjusted) if _goes_on(context) else {}
    _keep(context, trainer, number, {"reporter": reporter, **(parts or {}), **living, **sized})
    course = reporter.course
    _attach(context, trainer, reporter, stage)
    try:
        trainer.train(resume_from_checkpoint=begun)
        course.is_complete = course.stopped_early or course.step >= trainer.state.max_steps
    except StopRequested:
        course.is_complete = False
    except (RuntimeError, MemoryError) as error:
        why = oom_note(trainer, error) if _goes_on(context) else None
        if why is not None:
            context.log.note(*why)
        raise
    _settle(context, trainer, course)
    return course


def _keep(
    context: WorkerContext, trainer: Any, stage: int | None, states: dict[str, Stateful]
) -> None:
    """Have the trainer keep checkpoints as the settings say."""
    job, note = context.job, context.log.note
    limit = job.config.trainer.save_total_limit
    trainer.keep_checkpoints(CheckpointOptions(job.run, limit, stage, note, states))


def _settle(context: WorkerContext, trainer: Any, course: TrainingProgress) -> None:
    """Save where it was stopped, and see to it that what is best is what is told."""
    keeps_best = context.job.config.evaluation.keep_best
    if course.step and context.stop.mode == "keep" and not trainer.is_saved:
        _save_place(context, trainer)
        if course.is_complete and keeps_best:
            load_best_model(
                trainer
            )  # the wish came with the last update, and kept it from being taken
    if trainer.best_is_lost or not keeps_best:
        # It is the newest weights that are kept.
        course.best_step, course.best_loss = None, course.eval_loss


def _goes_on(context: WorkerContext) -> bool:
    return context.job.config.memory.autopilot


def _save_place(context: WorkerContext, trainer: Any) -> None:
    """Save where the run was stopped; if that fails, its output is still to be saved."""
    context.log.phase("saving", "Saving a checkpoint")
    try:
        trainer.save_now()
    except (OSError, RuntimeError, SafetensorError, ForgeError) as error:
        first = str(error).strip().split("\n", 1)[0]
        text = f"No checkpoint could be saved, so the run cannot go on from here: {first}"
        context.log.note("not-saved", text)


def _attach(
    context: WorkerContext, trainer: Any, reporter: EventReporter, stage: Stage | None
) -> None:
    """Add all that watches a training beside the reporter."""
    job = context.job
    add_gpu_limits(context, trainer, reporter)
    monitors.attach(trainer, job.config, context.log, reporter.course)
    name = f"{job.name} {stage.name}" if stage is not None else job.name
    trackers.attach(trainer, job.config, job.run, context.log, name)


def add_gpu_limits(context: WorkerContext, trainer: Any, reporter: EventReporter) -> None:
    """Let the training pause while the GPU is above what the settings allow."""
    if context.job.plan.device != "cuda":
        return
    ceilings = gpu_limits(context.job.config.hardware, nvml_sensors())
    if ceilings:
        trainer.add_callback(
            GpuLimitCallback(ceilings, context.log, context.stop, reporter.resume_clock)
        )


def finish(context: WorkerContext, trainer: Any, course: TrainingProgress, began: float) -> None:
    """Save what is to be kept and tell how the run ended."""
    job, log = context.job, context.log
    if not course.is_complete:
        _end_early(context, trainer, course)
        return
    _save(job, trainer, course, log)
    log.line(f"Finished after {course.step:,} updates.")
    log.end(
        FinishedEvent(
            steps=course.step,
            seconds=round(time.monotonic() - began, 1),
            output=job.run.output.name,
            loss=course.loss,
            eval_loss=course.best_loss,
            best_step=course.best_step,
        )
    )


def discard(run: RunFolder, log: EventLog, *, step: int = 0) -> None:
    """Tell that the run was stopped and nothing of it is kept; its checkpoints go.

    So does what it had left when it was stopped earlier, before it went on.
    """
    for folder in (run.checkpoints, run.output):
        shutil.rmtree(folder, ignore_errors=True)
    log.line(f"Stopped at update {step:,}; nothing is kept.")
    log.end(StoppedEvent(step=step, kept=False))


def _end_early(context: WorkerContext, trainer: Any, course: TrainingProgress) -> None:
    job, log = context.job, context.log
    if context.stop.mode == "discard" or course.step == 0:
        discard(job.run, log, step=course.step)
        return
    # While the held-out loss still falls the newest weights are the best; after that, those of
    # the check that was best.
    best_step = None if course.best_step == course.eval_step else course.best_step
    if best_step is not None:
        load_best_model(trainer)
    _save(job, trainer, course, log)
    log.line(f"Stopped at update {course.step:,}; what it has learned is kept.")
    log.end(StoppedEvent(step=course.step, kept=True, best_step=best_step))


def _save(job: Job, trainer: Any, course: TrainingProgress, log: EventLog) -> None:
    log.phase("saving", "Saving the adapter" if job.plan.trains == "adapter" else "Saving")
    save.save(
        job.run,
        trainer.model,
        trainer.processing_class,
        save.CardInfo.of_job(job, course.step, course.best_loss),
        trainer.adapter_init,
    )


def report_best_metrics(
    context: WorkerContext, trainer: Any, rows: int, names: Sequence[str]
) -> None:
    """Tell what the weights that are kept scored at their evaluation."""
    best = trainer.state.best_global_step
    told = [log for log in trainer.state.log_history if f"eval_{names[0]}" in log]
    if not told:
        return
    chosen = next((log for log in told if log["step"] == best), told[-1])
    context.log.scores(
        ScoresEvent(rows=rows, after={name: chosen[f"eval_{name}"] for name in names})
    )


def token_counts(tokenized: dataset.Tokenized) -> dict[str, Any]:
    """Return what the plan event says of rows and tokens."""
    return {
        "train_rows": len(tokenized.train),
        "eval_rows": len(tokenized.eval) if tokenized.eval is not None else 0,
        "trained_tokens": tokenized.trained_tokens,
        "all_tokens": tokenized.all_tokens,
        "truncated_rows": tokenized.truncated_rows,
    }


def plan_event_data(job: Job, trainer: Any) -> dict[str, Any]:
    """Return what the plan event says of the model and the machine."""
    plan = job.plan
    sizes = [(each.numel(), each.requires_grad) for each in trainer.model.parameters()]
    if hasattr(trainer.model, "get_nb_trainable_parameters"):
        trainable, total = trainer.model.get_nb_trainable_parameters()
    else:
        trainable = sum(size for size, learns in sizes if learns)
        total = sum(size for size, _ in sizes)
    args = trainer.args
    batches = math.ceil(len(trainer.train_dataset) / args.per_device_train_batch_size)
    return {
        "steps_per_epoch": math.ceil(batches / args.gradient_accumulation_steps),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "max_length": plan.max_length,
        "device": plan.device,
        "precision": plan.precision,
        "quantization": plan.quantization,
        "method": plan.method,
    }
