"""About how long a run takes, worked out from its arithmetic and the speed of the device."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelFacts
from modelforge.preflight.memory.estimate import adapter_weights
from modelforge.preflight.speed import flops_per_s, pace, padded_length

if TYPE_CHECKING:
    from modelforge.data.checks.summary import FirstLook
    from modelforge.hardware.machine import Machine


def estimate_seconds(
    config: TrainingConfig, plan: Plan, machine: Machine, facts: ModelFacts, look: FirstLook
) -> float | None:
    """Return about how long the run takes, loading included; None when that cannot be said."""
    update = pace(config, plan, machine, facts, look)
    if update is None or plan.total_steps is None:
        return None
    checks = _checks_s(config, plan, machine, facts, look)
    return plan.total_steps * update.seconds + checks + _loading(plan, facts)


def checks_by_training(
    config: TrainingConfig, plan: Plan, machine: Machine, facts: ModelFacts, look: FirstLook
) -> float:
    """Return how long all checks on held-out rows take as a multiple of the training."""
    if plan.device == "mps":
        plan = replace(plan, device="cpu")  # its speed is unknown, but a share hardly depends on it
    update = pace(config, plan, machine, facts, look)
    if update is None or not plan.total_steps:
        return 0.0
    training = plan.total_steps * update.seconds
    return _checks_s(config, plan, machine, facts, look) / training


def _checks_s(
    config: TrainingConfig, plan: Plan, machine: Machine, facts: ModelFacts, look: FirstLook
) -> float:
    rate = flops_per_s(config, plan, machine)
    if not plan.eval_steps or not plan.total_steps or rate is None:
        return 0.0
    times = -(-plan.total_steps // plan.eval_steps)
    each = 2 * ((facts.parameters or 0) + adapter_weights(config.lora_r, facts))
    length = padded_length(config, plan, look)
    return times * look.rows * config.eval_split * length * each / rate


def _loading(plan: Plan, facts: ModelFacts) -> float:
    return (12.0 if plan.device == "cuda" else 8.0) + facts.weights_gib * 2
