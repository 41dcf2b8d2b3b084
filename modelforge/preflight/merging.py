"""Disk space, memory and duration of merging the adapter at the end of a run."""

from __future__ import annotations

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo
from modelforge.units import GIB

# Reading the base model and writing as much, with the arithmetic between. Measured for the starter
# on two shared cores: see docs/performance.md.
BYTES_PER_S = 120 * 2**20
START_S = 2.0
# Models are split into files of about this size.
SHARD_GIB = 5.0


def merges(config: TrainingConfig, plan: Plan) -> bool:
    """Return whether the run merges its adapter at the end."""
    return config.adapter.merge_after_training and plan.trains == "adapter"


def merge_disk_gib(config: TrainingConfig, plan: Plan, model: ModelInfo) -> float:
    """Return the size of the merged model: that of the base model; 0 if the run does not merge."""
    return model.weights_gib if merges(config, plan) else 0.0


def merge_seconds(config: TrainingConfig, plan: Plan, model: ModelInfo | None) -> float:
    """Return about how long the merge takes; 0 if the run does not merge."""
    if model is None or not merges(config, plan):
        return 0.0
    return START_S + 2 * model.weights_gib * GIB / BYTES_PER_S


def merge_memory_gib(model: ModelInfo) -> float:
    """Return the main memory of the merge beside the trained model.

    One file is complete in memory before it is written, and one weight is merged in 32 bits: the
    largest is that of the embeddings.
    """
    largest = (model.vocab or 0) * (model.hidden_size or 0) * 4 * 2 / GIB
    return min(model.weights_gib, SHARD_GIB) + largest
