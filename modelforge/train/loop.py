"""Train: from the rows of a run to its trained weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from modelforge.config.providers import PROVIDER_FACTS
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.convert import Canonical
from modelforge.errors import ForgeError
from modelforge.modeling.errors import first_line
from modelforge.modeling.generate import GenerationEvaluator, GenerationSetup
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate, stop_ids_of, template_of_run
from modelforge.runs.event_types import ScoresEvent
from modelforge.train.callbacks import core_evaluation, monitors, trackers
from modelforge.train.callbacks.gpu_limits import GpuLimitCallback, gpu_limits, nvml_sensors
from modelforge.train.callbacks.reporter import EventReporter, TrainingProgress
from modelforge.train.callbacks.samples import SampleCallback, Sampler
from modelforge.train.callbacks.system_stats import SystemStats
from modelforge.train.callbacks.time_breakdown import measure_parts
from modelforge.train.finish import finish
from modelforge.train.job import Job, WorkerContext
from modelforge.train.privacy import protect_rows, report_privacy
from modelforge.train.stop import StopRequested
from modelforge.train.trainer import row_losses
from modelforge.train.trainer.batch_size import set_best_batch_size
from modelforge.train.trainer.checkpointing import CheckpointOptions, Stateful
from modelforge.train.trainer.oom_recovery import BatchSplits, enable_oom_recovery, oom_note
from modelforge.train.trainer.private import load_best_model
from modelforge.train.trainer.row_losses import RowLossMixin
from modelforge.train.trainer.run_length import set_run_length
from modelforge.train.trial_run.run import run_trial

Score = GenerationEvaluator | Callable[[], None]


@dataclass(frozen=True)
class Stage:
    """One of several trainings of a run: its number from 1, how many there are, and its name."""

    number: int
    count: int
    name: str


def chat_template_for(context: WorkerContext, tokenizer: Any, generation: Any) -> ChatTemplate:
    """Return the chat template of the run, and set the end-of-turn tokens of `generation`."""
    config = context.job.config
    template = template_of_run(tokenizer, stop_ids_of(generation), config)
    if config.data.padding_side != "auto":
        tokenizer.padding_side = config.data.padding_side
        # What is saved with it.
        tokenizer.init_kwargs["padding_side"] = config.data.padding_side
    generation.eos_token_id = sorted(template.stop_ids)
    return template


def dataset_request(job: Job, keep_eval_rows: int = 0) -> dataset.DatasetRequest:
    """Return the request for the run's dataset, with a sample of its evaluation rows."""
    config, options = job.config, TokenizeOptions.from_plan(job.config, job.plan)
    return dataset.DatasetRequest(
        job.dataset, config.eval_split, config.trainer.seed, options, keep_eval_rows
    )


def iter_split_rows(context: WorkerContext) -> Iterator[tuple[Canonical, bool]]:
    """Yield every row and whether it is for evaluation, and report the tokenizing phase."""
    return dataset.iter_split_rows(dataset_request(context.job), tokenize_progress(context))


def tokenize(
    context: WorkerContext,
    template: ChatTemplate,
    tokenize_rows: Callable[..., dataset.Tokenized] = dataset.tokenize,
) -> dataset.Tokenized:
    """Tokenize the run's dataset, by default for supervised fine-tuning."""
    config = context.job.config
    keep = max(scored_rows(config), config.evaluation.samples)
    request = dataset_request(context.job, keep)
    tokenized = tokenize_rows(request, template, tokenize_progress(context))
    for code, text in (*template.notes, *tokenized.notes):
        context.log.note(code, text)
    return tokenized


def scored_rows(config: TrainingConfig) -> int:
    """Return how many evaluation rows are answered and scored at the end of supervised training."""
    return config.evaluation.generated_rows if config.task != "text-generation" else 0


def tokenize_progress(context: WorkerContext) -> Callable[[int, int], None]:
    """Begin the tokenizing phase, note changed files, and return its progress callback."""
    log, text = context.log, "Tokenizing the rows"
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
    config = context.job.config
    prompts = setup.prompts(rows[: scored_rows(config)])
    if not prompts:
        return None
    summarizes = config.task == "summarization"
    return GenerationEvaluator(
        trainer, prompts, setup, summarizes, lambda: context.stop.mode is not None
    )


def train_and_finish(
    context: WorkerContext,
    trainer: Any,
    facts: dict[str, Any],
    score: Score | None = None,
    sampler: Sampler | None = None,
    parts: Mapping[str, Stateful] | None = None,
) -> TrainingProgress:
    """Do the training of a run with one stage, score the result, and finish the run.

    `parts` are further objects that checkpoints save, by name. Returns the progress.
    """
    began = time.monotonic()
    evaluator = score if isinstance(score, GenerationEvaluator) else None
    progress = train(context, trainer, facts, parts=parts, evaluator=evaluator, sampler=sampler)
    if progress.is_complete and score is not None:
        _score(context, progress, score)
    finish(context, trainer, progress, began)
    return progress


def _score(context: WorkerContext, progress: TrainingProgress, score: Score) -> None:
    """Score the trained model; a stop or an error does not lose the training."""
    try:
        if isinstance(score, GenerationEvaluator):
            before, after = score.evaluate(context.generation_progress("scoring"))
            rows = len(score.prompts)
            context.log.write(ScoresEvent(rows=rows, before=before, after=after))
        else:
            score()
    except StopRequested:
        progress.is_complete = context.stop.mode != "discard"
    except (RuntimeError, ValueError) as error:  # includes out-of-memory errors
        text = f"The answers to the evaluation rows could not be scored: {first_line(error)}"
        context.log.note("not-scored", text)


def train(
    context: WorkerContext,
    trainer: Any,
    facts: dict[str, Any],
    stage: Stage | None = None,
    parts: Mapping[str, Stateful] | None = None,
    evaluator: GenerationEvaluator | None = None,
    sampler: Sampler | None = None,
) -> TrainingProgress:
    """Train and return the progress; `is_complete` is false when the run was stopped.

    Args:
        context: The run.
        trainer: A trainer with `CheckpointMixin`.
        facts: Fields of the plan event besides those of model and machine.
        stage: The stage, in runs with several.
        parts: Further objects that checkpoints save, by name.
        evaluator: Scores answers after the training; a trial run measures it.
        sampler: Answers the sample prompts; a trial run measures it.
    """
    job = context.job
    number, checkpoint = stage.number if stage else None, context.checkpoint
    is_resumed = checkpoint is not None and checkpoint.stage == number
    resume_from = checkpoint.path if checkpoint and is_resumed else None
    batch_size = set_best_batch_size(context, trainer, resume_from)
    facts = _with_length(context, trainer, stage, facts)
    parts = {**(parts or {})} | protect_rows(context, trainer, facts["steps_per_epoch"])
    if job.is_trial_run:
        steps = run_trial(context, trainer, facts, evaluator, sampler)
        return TrainingProgress(step=steps, eval_step=steps, is_complete=True)
    reporter = _report_events(context, trainer, facts, number)
    saved = {"reporter": reporter, **parts, **batch_size, **_recovery(context, trainer)}
    _keep_checkpoints(context, trainer, number, saved)
    _add_callbacks(context, trainer, reporter, stage)
    if sampler is not None:
        trainer.add_callback(SampleCallback(sampler, trainer, reporter.resume_clock))
    keep_row_losses(context, trainer, resumes=is_resumed)
    _train(context, trainer, reporter.progress, resume_from)
    _settle(context, trainer, reporter.progress)
    return reporter.progress


def _with_length(
    context: WorkerContext, trainer: Any, stage: Stage | None, facts: dict[str, Any]
) -> dict[str, Any]:
    """Return all fields of the plan event, and set the length of the run in its last stage."""
    facts = plan_event_data(context.job, trainer, stage) | facts
    if stage is None or stage.number == stage.count:
        set_run_length(context, trainer, facts)
    return facts


def _report_events(
    context: WorkerContext, trainer: Any, facts: dict[str, Any], stage: int | None
) -> EventReporter:
    stats = SystemStats(context.job.plan.device)
    reporter = EventReporter(context.log, context.stop, stats, facts, stage)
    trainer.add_callback(reporter)
    return reporter


def _recovery(context: WorkerContext, trainer: Any) -> dict[str, BatchSplits]:
    """Enable the recovery from running out of memory, if configured; return its saved state."""
    # A batch of one row cannot be split.
    if not recovers(context.job) or context.job.config.privacy.enabled:
        return {}
    return enable_oom_recovery(trainer, context.log.write)


def recovers(job: Job) -> bool:
    """Return whether a full memory is recovered from; several processes would differ."""
    return job.config.memory.autopilot and job.plan.ranks == 1


def _keep_checkpoints(
    context: WorkerContext, trainer: Any, stage: int | None, saved: dict[str, Stateful]
) -> None:
    job = context.job
    limit = job.config.trainer.save_total_limit
    trainer.keep_checkpoints(
        CheckpointOptions(job.run, job.plan, limit, stage, context.log.note, saved)
    )


def keep_row_losses(context: WorkerContext, trainer: Any, *, resumes: bool) -> None:
    """Let the trainer keep the losses of its rows, where it can."""
    job = context.job
    if not job.config.evaluation.row_losses or not isinstance(trainer, RowLossMixin):
        return
    if job.plan.ranks > 1:
        return  # the plan says so
    if job.config.privacy.enabled:
        text = "The losses of rows are not kept: they would reveal what privacy protects."
        context.log.note("row-losses-off", text)
        return
    if job.plan.torch_compile or PROVIDER_FACTS[job.config.provider].patches:
        text = "The losses of rows are not kept: the loss is compiled or replaced."
        context.log.note("row-losses-off", text)
        return
    row_losses.attach(trainer, job.run.row_losses, resumes=resumes)


def _train(
    context: WorkerContext, trainer: Any, progress: TrainingProgress, resume_from: Path | None
) -> None:
    try:
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        progress.is_complete = progress.stopped_early or progress.step >= trainer.state.max_steps
    except StopRequested:
        progress.is_complete = False
    except (RuntimeError, MemoryError) as error:
        note = oom_note(trainer, error) if recovers(context.job) else None
        if note is not None:
            context.log.note(*note)
        raise


def _settle(context: WorkerContext, trainer: Any, progress: TrainingProgress) -> None:
    """Save a checkpoint where the run was stopped, and make sure the best step is correct."""
    keeps_best = context.job.config.evaluation.keep_best
    if progress.step and context.stop.mode == "keep" and not trainer.is_saved:
        _save_checkpoint(context, trainer)
        if progress.is_complete and keeps_best:
            # The stop came with the last step, so Transformers did not load the best weights.
            load_best_model(trainer)
    if trainer.best_is_lost or not keeps_best:
        # The newest weights are kept.
        progress.best_step, progress.best_loss = None, progress.eval_loss
        progress.best_bits_per_byte = progress.eval_bits_per_byte


def _save_checkpoint(context: WorkerContext, trainer: Any) -> None:
    """Save a checkpoint; an error is only noted, so that the output can still be saved."""
    context.log.phase("saving", "Saving a checkpoint")
    try:
        trainer.save_now()
    except (OSError, RuntimeError, SafetensorError, ForgeError) as error:
        if context.job.plan.ranks > 1:
            raise  # the other processes wait
        text = f"No checkpoint could be saved, so the run cannot be resumed: {first_line(error)}"
        context.log.note("not-saved", text)


def _add_callbacks(
    context: WorkerContext, trainer: Any, reporter: EventReporter, stage: Stage | None
) -> None:
    job = context.job
    add_gpu_limits(context, trainer, reporter)
    core_evaluation.attach(context, trainer, reporter.resume_clock)
    monitors.attach(trainer, job.config, context.log, reporter.progress)
    name = f"{job.name} {stage.name}" if stage is not None else job.name
    if context.is_main:
        trackers.attach(trainer, job.config, job.run, context.log, name)
    number = stage.number if stage is not None else None
    measure_parts(context, trainer, number)
    report_privacy(context, trainer, number)


def add_gpu_limits(context: WorkerContext, trainer: Any, reporter: EventReporter) -> None:
    """Let the training pause while the GPU exceeds a configured limit."""
    if context.job.plan.device != "cuda":
        return
    limits = gpu_limits(context.job.config.hardware, nvml_sensors())
    if limits:
        pause = GpuLimitCallback(limits, context.log, context.stop, reporter.resume_clock)
        trainer.add_callback(pause)


def token_counts(tokenized: dataset.Tokenized) -> dict[str, Any]:
    """Return the fields of the plan event about rows and tokens."""
    return {
        "train_rows": len(tokenized.train),
        "eval_rows": len(tokenized.eval) if tokenized.eval is not None else 0,
        "trained_tokens": tokenized.trained_tokens,
        "all_tokens": tokenized.all_tokens,
        "truncated_rows": tokenized.truncated_rows,
    }


def plan_event_data(job: Job, trainer: Any, stage: Stage | None) -> dict[str, Any]:
    """Return the fields of the plan event about model, machine and stage; `steps_per_epoch`."""
    plan, args, model = job.plan, trainer.args, trainer.model
    if hasattr(model, "get_nb_trainable_parameters"):
        trainable, total = model.get_nb_trainable_parameters()
    else:
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in model.parameters())
    rows = args.per_device_train_batch_size * plan.replicas
    batches = math.ceil(len(trainer.train_dataset) / rows)
    stage_facts = {}
    if stage is not None:
        stage_facts = {"stage": stage.number, "stages": stage.count, "stage_name": stage.name}
    if plan.ranks > 1:
        stage_facts |= {"ranks": plan.ranks, "sharding": plan.sharding}
    return {
        **stage_facts,
        "steps_per_epoch": math.ceil(batches / args.gradient_accumulation_steps),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "max_length": plan.max_length,
        "device": plan.device,
        "precision": plan.precision,
        "quantization": plan.quantization,
        "method": plan.method,
    }
