"""How much room a run takes on the disk: checkpoints, the finished adapter, a model to fetch."""

from __future__ import annotations

from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig
from modelforge.models.shape import ModelFacts
from modelforge.preflight.memory import ADAM_BYTES, GIB, adapter_weights

# The best, the newest, and the one that is being written.
CHECKPOINTS = 3
TOKENIZER_GIB = 16 / 1024
EVENTS_GIB = 32 / 1024


def disk_needed_gib(config: TrainingConfig, plan: Plan, facts: ModelFacts) -> float:
    """Return about how many GiB the run writes, the download of its model included."""
    adapter = adapter_weights(config.lora_r, facts)
    saved = adapter * 4 / GIB + TOKENIZER_GIB
    checkpoint = saved + adapter * ADAM_BYTES[plan.optim] / GIB
    fetched = 0.0 if facts.local else facts.weights_gib
    return CHECKPOINTS * checkpoint + saved + EVENTS_GIB + fetched
