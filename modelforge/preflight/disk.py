"""How much room a run takes on the disk: checkpoints, what was trained, a model to fetch."""

from __future__ import annotations

from modelforge.config.choices import OPTIMIZERS
from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig
from modelforge.models.shape import ModelFacts
from modelforge.preflight.memory import GIB, trained_weights

# The best, the newest, and the one that is being written.
CHECKPOINTS = 3
TOKENIZER_GIB = 16 / 1024
EVENTS_GIB = 32 / 1024


def disk_needed_gib(config: TrainingConfig, plan: Plan, facts: ModelFacts) -> float:
    """Return about how many GiB the run writes, the download of its model included."""
    trained = trained_weights(config, plan, facts)
    saved = trained * 4 / GIB + TOKENIZER_GIB
    checkpoint = saved + trained * OPTIMIZERS[plan.optim].bytes / GIB
    fetched = 0.0 if facts.local else facts.weights_gib
    return CHECKPOINTS * checkpoint + saved + EVENTS_GIB + fetched
