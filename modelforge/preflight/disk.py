"""How much room a run takes on the disk: checkpoints, what was trained, a model to fetch."""

from __future__ import annotations

from modelforge.config.optimizers import OPTIMIZERS
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.memory.estimate import trained_weights
from modelforge.units import GIB

# The one that is being written, beside those that are kept.
WRITTEN = 1
TOKENIZER_GIB = 16 / 1024
EVENTS_GIB = 32 / 1024


def disk_needed_gib(config: TrainingConfig, plan: Plan, facts: ModelInfo) -> float:
    """Return about how many GiB the run writes, the download of its model included."""
    trained = trained_weights(config, plan, facts)
    saved = trained * 4 / GIB + TOKENIZER_GIB
    checkpoint = saved + trained * OPTIMIZERS[plan.optim].bytes_per_weight / GIB
    fetched = 0.0 if facts.local else facts.weights_gib
    kept = checkpoints_kept(config, plan)
    return (kept + WRITTEN) * checkpoint + saved + EVENTS_GIB + fetched


def checkpoints_kept(config: TrainingConfig, plan: Plan) -> int:
    """Return how many checkpoints lie on the disk at once, the best among them."""
    best = 1 if config.evaluation.keep_best and plan.eval_steps else 0
    most = max(config.trainer.save_total_limit, 1 + best)
    if not plan.total_steps:
        return most
    times = 1 if plan.save_steps == -1 else -(-plan.total_steps // plan.save_steps)
    return min(most, times + best)
