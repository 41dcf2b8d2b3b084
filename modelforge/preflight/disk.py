"""Disk space of a run: checkpoints, the trained weights, and the download of the model."""

from __future__ import annotations

from modelforge.config.optimizers import OPTIMIZERS
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


def checkpoints_kept(config: TrainingConfig, plan: Plan) -> int:
    """Return the largest number of checkpoints on the disk at once, the best one included."""
    best = 1 if config.evaluation.keep_best and plan.eval_steps else 0
    limit = max(config.trainer.save_total_limit, 1 + best)
    if not plan.total_steps:
        return limit
    saves = 1 if plan.save_steps == -1 else -(-plan.total_steps // plan.save_steps)
    return min(limit, saves + best)
