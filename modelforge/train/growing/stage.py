"""One stage of a growing model: its job, its model with new layers and adapters, its trainer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from modelforge.config.progressive.settings import masking_of, rates_of_groups
from modelforge.config.progressive.stages import Direction, StagePlan
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.growing.adapters import add_stage_adapters
from modelforge.modeling.growing.freezing import prepare_stage
from modelforge.modeling.growing.layers import decoder_layers, insert_layers
from modelforge.modeling.growing.masking import MaskingCollator
from modelforge.modeling.growing.trunk_cache import TrunkCache, trunk_key
from modelforge.modeling.tokenize.dataset import Tokenized
from modelforge.runs.progress.evaluation_losses import interval, mean
from modelforge.runs.progress.measured_events import GainEvent
from modelforge.train.job import Job, WorkerContext
from modelforge.train.trainer.arguments import make_trainer
from modelforge.train.trainer.chunked_loss import sft_loss_chunk
from modelforge.train.trainer.evaluated import EvaluatedBatches
from modelforge.train.trainer.growing import GrowingTrainer, StageSetup
from modelforge.train.trainer.supervised import (
    extend_collator,
    trained_rows,
    training_arguments,
)
from modelforge.units import GIB


@dataclass(frozen=True)
class GrowingStage:
    """A stage with its number from 1, and how many there are.

    Attributes:
        adding: Stages that add layers.
    """

    plan: StagePlan
    count: int
    adding: int

    @property
    def number(self) -> int:
        """The number of the stage, from 1."""
        return self.plan.index + 1


def stage_job(job: Job, stage: StagePlan) -> Job:
    """Return the job of one stage: the steps and intervals of a run of this stage alone."""
    group, plan = job.config.progressive, job.plan
    steps = group.joint_tuning_steps if stage.is_joint else group.steps_per_stage
    config = job.config.with_changes(
        {
            "max_steps": steps or -1,
            "num_train_epochs": group.epochs_per_stage,
            # They are by row of one training.
            "evaluation.row_losses": False,
        }
    )
    if steps is None:
        known = plan.growing.stage_steps if plan.growing else None
        return replace(job, config=config, plan=replace(plan, total_steps=known))
    every, saves = plan.eval_steps, plan.save_steps
    if every is not None:
        every = min(every, steps)
        saves = saves if saves == -1 else -(-saves // every) * every
    plan = replace(plan, total_steps=steps, eval_steps=every, save_steps=saves)
    return replace(job, config=config, plan=plan)


def grow(model: Any, job: Job, stage: StagePlan) -> Any:
    """Return the model of a stage, with its new layers and adapters, and set what trains.

    Raises:
        WorkerError: the layers of this type of model are not known.
    """
    group = job.config.progressive
    model.train()  # before layers are added to a quantized model
    missing = stage.layers - model.config.num_hidden_layers
    if missing > 0:
        try:
            insert_layers(
                model,
                missing,
                direction=Direction(group.direction),
                dtype=new_dtype(job, stage),
                seed=job.config.trainer.seed + stage.index,
            )
        except ValueError as error:
            problem = Problem("model_name", str(error), "Choose a model such as llama or qwen3.")
            raise WorkerError("model-unsupported", problem) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.config.trainer.seed + stage.index)
        return add_stage_adapters(model, stage)


def new_dtype(job: Job, stage: StagePlan) -> torch.dtype:
    """Return the number format of new layers; a joint stage adds none."""
    name = "float32" if stage.is_joint else job.config.progressive.new_layer_dtype
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def build_trainer(
    context: WorkerContext,
    loaded: Any,
    rows: Tokenized,
    stage: StagePlan,
    load_plain: Callable[[], Any],
) -> GrowingTrainer:
    """Return the trainer of a stage; `context` has the job of the stage.

    `load_plain` loads the model that the stage begins with once more, not quantized.
    """
    job = context.job
    config, plan = job.config, job.plan
    model = grow(loaded.model, job, stage)
    trunk = prepare_stage(model, stage)
    args = training_arguments(job, evaluates=rows.eval is not None)
    # The model computes what it did before: this is its loss before growing.
    is_first = stage.index == 0 and not config.pretraining.enabled
    args.eval_on_start = is_first and rows.eval is not None and not job.is_trial_run
    rows = replace(rows, train=trained_rows(rows.train, config, plan))
    with sft_loss_chunk(plan.loss_piece):
        trainer: GrowingTrainer = make_trainer(GrowingTrainer, job, loaded, rows, args, model=model)
    _recast(trainer.model, stage, new_dtype(job, stage))
    rates = rates_of_groups(config, args.learning_rate)
    trainer.setup = StageSetup(stage, rates, trunk, _cache(context, trainer.model, stage))
    if plan.quantization != "none":
        trainer.setup.load_plain = lambda: grow(load_plain(), job, stage)
    extend_collator(trainer, config)
    if config.progressive.objective == "mlm":
        _mask(trainer, job, loaded.tokenizer, stage)
    return trainer


def _recast(model: Any, stage: StagePlan, dtype: torch.dtype) -> None:
    """Give the new layers their number format again: trainers cast what trains to 32 bits."""
    for index in stage.new_layers:
        for name, weight in decoder_layers(model)[index].named_parameters():
            if "lora_" not in name:
                weight.data = weight.data.to(dtype)


def _mask(trainer: Any, job: Job, tokenizer: Any, stage: StagePlan) -> None:
    group = job.config.progressive
    masking, mask_id = masking_of(group), int(tokenizer.mask_token_id)
    shares = masking.of_stage(stage.index, group.stages)
    # Losses of different stages can be compared if they are of the same masks.
    fixed, collate = masking.of_stage(0, group.stages), trainer.data_collator
    trainer.setup.masks_eval = MaskingCollator(collate, fixed, mask_id, is_fixed=True)
    trainer.data_collator = MaskingCollator(collate, shares, mask_id)


def _cache(context: WorkerContext, model: Any, stage: StagePlan) -> TrunkCache | None:
    """Return the cache of a frozen trunk, attached to the model; None without one."""
    job, group = context.job, context.job.config.progressive
    if not (group.cache_activations and stage.has_fixed_trunk) or job.is_trial_run:
        return None
    below = stage.first_saved_layer
    data = json.dumps(job.dataset, sort_keys=True, default=str)
    key = trunk_key(model, below, data, job.plan.attn_implementation)
    limit = int(group.cache_limit_gib * GIB)
    cache = TrunkCache(job.run.trunk_cache, key, limit_bytes=limit)
    try:
        cache.attach(model, below)
    except ValueError as error:
        cache.close()
        context.log.note("trunk-not-cached", f"The trunk is not stored. {error}")
        return None
    return cache


def gain_event(evaluated: EvaluatedBatches | None, stage: int) -> GainEvent | None:
    """Return what growing has given after a stage; None where it is not known."""
    if evaluated is None or not evaluated.before:
        return None
    before, after = evaluated.before, evaluated.best
    if len(before) != len(after):
        return None
    low, high = interval(before, after)
    return GainEvent(
        stage=stage,
        before=mean(before),
        after=mean(after),
        low=low,
        high=high,
        batches=len(after),
    )
