"""Disk space of a run: checkpoints, the trained weights, and the download of the model."""

from __future__ import annotations

from modelforge.config.optimizers import OPTIMIZERS, TrainedSizes
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.memory.estimate import trained_sizes
from modelforge.preflight.merging import merge_disk_gib
from modelforge.units import GIB

TOKENIZER_GIB = 16 / 1024
EVENTS_GIB = 32 / 1024
# A token in the files of a tokenizer that is trained here: its entry and its merge.
TRAINED_TOKEN_BYTES = 64


def disk_needed_gib(config: TrainingConfig, plan: Plan, model: ModelInfo | None) -> float | None:
    """Return about how many GiB the run writes, the model's download included."""
    if model is None:
        return None
    if plan.growing is not None:
        return _growing_gib(config, plan, model)
    sizes = trained_sizes(config, plan, model)
    saved = (model.parameters or 0) * 4 / GIB if plan.trains == "all" else sizes.total * 4 / GIB
    saved += _tokenizer_gib(config)
    checkpoint = saved + OPTIMIZERS[plan.optim].state_bytes(sizes, plan.trained_bytes) / GIB
    download = 0.0 if model.local else model.weights_gib
    # One more checkpoint is being written before an old one is deleted.
    checkpoints = checkpoints_kept(config, plan) + 1
    if (planned := plan.pretraining) is not None:
        # The start model, and the token files of the text.
        download = saved + 4 * (planned.text_tokens or 0.0) / GIB
    merged = merge_disk_gib(config, plan, model)
    return checkpoints * checkpoint + saved + EVENTS_GIB + download + merged


def _tokenizer_gib(config: TrainingConfig) -> float:
    """Return the size of a tokenizer's files; one that is trained has no more than its merges."""
    group = config.pretraining
    if group.enabled and group.trains_tokenizer:
        return group.vocab_size * TRAINED_TOKEN_BYTES / GIB
    return TOKENIZER_GIB


def _growing_gib(config: TrainingConfig, plan: Plan, model: ModelInfo) -> float:
    """Return the GiB of a growing model: models of stages, checkpoints of what trains, a cache."""
    group, stages = config.progressive, plan.growing.stages if plan.growing else []
    number_bytes = 4 if plan.weights_dtype == "float32" else 2
    models = [(stage.parameters or 0) * number_bytes / GIB + TOKENIZER_GIB for stage in stages]
    trained = max((stage.trained or 0 for stage in stages), default=0)
    state = OPTIMIZERS[plan.optim].state_bytes(TrainedSizes(trained), 4)
    checkpoints = (checkpoints_kept(config, plan) + 1) * (4 * trained + state) / GIB
    # The model of the stage before is read while the next one is trained.
    kept = sum(models) if group.save_each_stage else sum(sorted(models)[-2:])
    cache = group.cache_limit_gib if group.cache_activations else 0.0
    download = 0.0 if model.local else model.weights_gib
    return kept + checkpoints + cache + download + EVENTS_GIB


def checkpoints_kept(config: TrainingConfig, plan: Plan) -> int:
    """Return the largest number of checkpoints on the disk at once, the best one included."""
    best = 1 if config.evaluation.keep_best and plan.eval_steps else 0
    limit = max(config.trainer.save_total_limit, 1 + best)
    if not plan.total_steps:
        return limit
    saves = 1 if plan.save_steps == -1 else -(-plan.total_steps // plan.save_steps)
    return min(limit, saves + best)
