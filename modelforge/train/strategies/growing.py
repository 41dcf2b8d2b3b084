"""Growing a model: stages add layers and train them, one after the other, in one run.

The model of every finished stage is saved in the run folder, and the next stage begins with it. A
run can therefore be stopped and resumed between stages as well as inside them.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from transformers import set_seed

from modelforge.config.methods import Head
from modelforge.config.plan.growing import stage_name
from modelforge.config.progressive.settings import growth_of
from modelforge.config.progressive.stages import stage_plans
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.growing.embeddings import borrow_embeddings
from modelforge.modeling.growing.masking import add_mask_token, use_masked_objective
from modelforge.modeling.perplexity import PerplexityMeter, count_text_bytes
from modelforge.modeling.pretraining.build import read_embeddings
from modelforge.modeling.tokenize.dataset import Tokenized
from modelforge.modeling.tokenize.template import ChatTemplate
from modelforge.runs.event_types import StoppedEvent
from modelforge.runs.events import iter_events
from modelforge.runs.progress.measured_events import GrowthEvent
from modelforge.runs.timeline import StageTimeline
from modelforge.train import loop, save
from modelforge.train.callbacks.reporter import TrainingProgress
from modelforge.train.callbacks.samples import sample_base
from modelforge.train.environment import trim_memory
from modelforge.train.finish import finish
from modelforge.train.growing.stage import GrowingStage, build_trainer, gain_event, stage_job
from modelforge.train.job import WorkerContext
from modelforge.train.loop import Stage
from modelforge.train.pretraining.start_model import start_model
from modelforge.train.resume import remove_checkpoints_until
from modelforge.train.stop import StopRequested
from modelforge.train.trainer.evaluated import EvaluatedBatches

HEAD: Head = "causal"


@dataclass
class _Rows:
    """The tokenized rows, which all stages share, and the template they are written with."""

    tokenized: Tokenized | None = None
    template: ChatTemplate | None = None
    began: float = field(default_factory=time.monotonic)


def run(context: WorkerContext) -> None:
    """Do a whole run: for each stage add layers, train, merge, and save the model."""
    rows, number, count = _Rows(), context.job.run.finished_stages + 1, _count(context)
    if number > count:  # it was killed after its last stage, before the result had its name
        number = count
    while number <= count:
        try:
            progress = _train_stage(context, number, rows)
        except StopRequested:
            checkpoint = context.checkpoint
            if number == 1 or (checkpoint is not None and checkpoint.stage == number):
                raise
            _end_between_stages(context, number)
            return
        if not progress.is_complete:
            return
        trim_memory()
        number += 1


def _count(context: WorkerContext) -> int:
    group = context.job.config.progressive
    return group.stages + (1 if group.joint_tuning_steps else 0)


def _train_stage(context: WorkerContext, number: int, rows: _Rows) -> TrainingProgress:
    """Train a stage, and save its model; the last one ends the run."""
    if context.job.plan.device == "cuda":
        torch.cuda.reset_peak_memory_stats()  # each stage has its own peak
    loaded = _load(context, number)
    stage = _stage(context, loaded.model, number)
    context = replace(context, job=stage_job(context.job, stage.plan))
    _report_stage(context, stage)
    tokenized, template = _tokenized(context, loaded, rows)
    context.stop.check()
    is_masked = context.job.config.progressive.objective == "mlm"
    sampler = None
    if not is_masked:  # a model that attends in both directions does not answer
        sampler = sample_base(context, loaded.model, tokenized.eval_rows, template, number)
    set_seed(context.job.config.trainer.seed)
    trainer = build_trainer(
        context, loaded, tokenized, stage.plan, lambda: _load(context, number, is_plain=True).model
    )
    if tokenized.eval is not None and not is_masked:
        size = count_text_bytes(tokenized.eval["labels"], loaded.tokenizer)
        trainer.perplexity = PerplexityMeter(size)
    trainer.evaluated = EvaluatedBatches.of(context.job, tokenized.eval)
    shown = Stage(number, stage.count, stage_name(stage.plan, stage.adding))
    facts = loop.token_counts(tokenized)
    parts = {"evaluated": trainer.evaluated} if trainer.evaluated else {}
    progress = loop.train(context, trainer, facts, shown, parts, sampler=sampler)
    if number < stage.count and context.stop.mode is not None:
        # Its last evaluation is missing: the run is resumed in this stage.
        progress.is_complete = False
    if progress.is_complete and (gain := gain_event(trainer.evaluated, number)):
        context.log.write(gain)
    if number > 1 and not progress.is_complete and progress.step == 0:
        raise StopRequested
    if number == stage.count or not progress.is_complete:
        _finish(context, trainer, progress, rows.began, number)
    elif not context.job.is_trial_run:
        _save_stage(context, trainer, progress, number)
    del trainer, loaded
    clear_device_cache(garbage_collection=True)
    return progress


def _load(context: WorkerContext, number: int, *, is_plain: bool = False) -> Any:
    """Return the model that a stage begins with, and its tokenizer."""
    folder = _folder(context, number)
    loaded = context.load(HEAD, str(folder) if folder else None, is_plain=is_plain)
    if number == 1 and context.job.config.pretraining.embedding_adapter_dim is not None:
        _borrow_embeddings(context, loaded.model)
    if context.job.config.progressive.objective == "mlm":
        token = context.job.config.progressive.mask_token
        add_mask_token(loaded.model, loaded.tokenizer, token)
        use_masked_objective(loaded.model)
    return loaded


def _borrow_embeddings(context: WorkerContext, model: Any) -> None:
    """Give a new model the embeddings of another, through an adapter that its first stage trains.

    Raises:
        WorkerError: the other model has none for all tokens.
    """
    job, rows = context.job, model.get_input_embeddings().num_embeddings
    folder = Path(job.plan.tokenizer_path or job.config.pretraining.tokenizer)
    source = read_embeddings(folder)
    if source is None or len(source) < rows:
        what = f"{folder.name} has {0 if source is None else len(source):,} of {rows:,} embeddings."
        problem = Problem("pretraining.tokenizer", what, "Choose another model.")
        raise WorkerError("embeddings-missing", problem)
    size, seed = job.config.pretraining.embedding_adapter_dim, job.config.trainer.seed
    borrow_embeddings(model, source[:rows], adapter=size, seed=seed)


def _folder(context: WorkerContext, number: int) -> Path | None:
    """Return the folder of the model that a stage begins with; None for the base model."""
    job = context.job
    if number > 1 and not job.is_trial_run:
        return job.run.stage(number - 1)
    if not job.config.pretraining.enabled:
        return None
    layers = job.config.progressive.layers_per_stage
    config = job.config.with_changes({"pretraining.n_layers": layers})
    return start_model(replace(context, job=replace(job, config=config)))


def _stage(context: WorkerContext, model: Any, number: int) -> GrowingStage:
    job = context.job
    group, layers = job.config.progressive, model.config.num_hidden_layers
    added = 0 if job.is_trial_run else min(number - 1, group.stages)
    is_new = job.config.pretraining.enabled
    base = 0 if is_new else layers - added * group.layers_per_stage
    stages = stage_plans(growth_of(job.config, base))
    return GrowingStage(stages[number - 1], len(stages), group.stages)


def _report_stage(context: WorkerContext, stage: GrowingStage) -> None:
    plan = stage.plan
    event = GrowthEvent(
        stage=stage.number,
        stages=stage.count,
        name=stage_name(plan, stage.adding),
        layers=plan.layers,
        new=list(plan.new_layers),
        trained=list(plan.trained_layers),
        frozen=list(plan.frozen_layers),
        adapters={adapter.name: list(adapter.sizes) for adapter in plan.adapters},
    )
    context.log.write(event)


def _tokenized(context: WorkerContext, loaded: Any, rows: _Rows) -> tuple[Tokenized, ChatTemplate]:
    """Return the rows, tokenized once, and the template; the end tokens of the model are set."""
    template = loop.chat_template_for(context, loaded.tokenizer, loaded.model.generation_config)
    if rows.tokenized is None:
        rows.tokenized = loop.tokenize(context, template)
    return rows.tokenized, template


def _save_stage(
    context: WorkerContext, trainer: Any, progress: TrainingProgress, number: int
) -> None:
    """Save the model of a finished stage; its checkpoints are not needed any more."""
    job = context.job
    run = job.run
    context.log.phase("saving", f"Saving the model of stage {number}")
    save.write(
        job,
        trainer,
        context.log.note,
        run.stage_staged,
        steps=progress.step,
        eval_loss=progress.best_loss,
    )
    run.stages.mkdir(exist_ok=True)
    shutil.rmtree(run.stage(number), ignore_errors=True)
    run.stage_staged.rename(run.stage(number))
    remove_checkpoints_until(run, number)
    shutil.rmtree(run.trunk_cache, ignore_errors=True)
    if not job.config.progressive.save_each_stage:
        shutil.rmtree(run.stage(number - 1), ignore_errors=True)


def _finish(
    context: WorkerContext, trainer: Any, progress: TrainingProgress, began: float, number: int
) -> None:
    """Save the result and end the run; models of stages are kept as configured."""
    run = context.job.run
    stages = StageTimeline().add_all(iter_events(run.events)).stages
    earlier = sum(stage.step for stage in stages if stage.number < number)
    finish(context, trainer, progress, began, stage=number, earlier=earlier)
    shutil.rmtree(run.trunk_cache, ignore_errors=True)
    is_whole = progress.is_complete and not context.job.config.progressive.save_each_stage
    if is_whole or context.stop.mode == "discard":
        shutil.rmtree(run.stages, ignore_errors=True)


def _end_between_stages(context: WorkerContext, number: int) -> None:
    """End before the first step of a later stage; the model of the stage before is the result."""
    run = context.job.run
    if context.stop.mode == "discard":
        for folder in (run.checkpoints, run.output, run.stages):
            shutil.rmtree(folder, ignore_errors=True)
        text = f"Stopped before stage {number}; nothing is kept."
        context.log.end(StoppedEvent(step=0, kept=False, stage=number), text)
        return
    shutil.rmtree(run.output_staged, ignore_errors=True)
    shutil.copytree(run.stage(number - 1), run.output_staged)
    save.publish(context.job)
    text = f"Stopped before stage {number}; the model of stage {number - 1} is kept."
    context.log.end(StoppedEvent(step=0, kept=True, stage=number), text)
