"""The settings of the runs that a growing model is compared with, for the same FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, get_args

from modelforge.config.plan.growing import GrowthPlan
from modelforge.config.resolve import flatten, nest
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.run_length import Measure

# Settings that mean nothing, or something else, in a run that does not grow.
_ONLY_GROWING = ("optimizer.new_layer_lr",)
# Settings of the stages, which one stage with all layers does not have.
_BY_STAGE = (
    *("progressive.epochs_per_stage", "progressive.per_stage"),
    *("progressive.rank_strategy", "progressive.rank_pattern", "progressive.alpha_pattern"),
)


class Way(StrEnum):
    """Another way to train: LoRA on the model as it was, or all new layers in one stage."""

    LORA = "lora"
    AT_ONCE = "at-once"


def why_not(config: TrainingConfig, way: Way) -> str:
    """Return why a growing model cannot be compared with a way of training; empty if it can."""
    if way is Way.AT_ONCE:
        return "" if config.progressive.stages > 1 else "All layers were added at once."
    if config.pretraining.enabled:
        return "There was no model before growing."
    if config.progressive.objective == "mlm":
        return "LoRA predicts the next token, and this model masked ones."
    return ""


def lora_settings(values: Mapping[str, Any], flops: float) -> dict[str, Any]:
    """Return the settings of a LoRA training of the base model with this number of FLOPs."""
    left_out = {*get_args(Measure), *_ONLY_GROWING}
    kept = {
        name: value
        for name, value in flatten(values).items()
        if name not in left_out and not name.startswith("progressive.")
    }
    return nest({**kept, "trainer.target_flops": flops})


def at_once_settings(
    values: Mapping[str, Any], config: TrainingConfig, steps: int
) -> dict[str, Any]:
    """Return the settings of a training that adds all new layers in one stage of `steps`."""
    group = config.progressive
    kept = {name: value for name, value in flatten(values).items() if name not in _BY_STAGE}
    one_stage = {
        "progressive.mode": "blockwise" if group.mode == "layerwise" else group.mode,
        "progressive.stages": 1,
        "progressive.layers_per_stage": group.stages * group.layers_per_stage,
        "progressive.steps_per_stage": steps,
    }
    return nest({**kept, **one_stage})


def steps_for(flops: float, plan: GrowthPlan) -> int | None:
    """Return the steps of the first stage with which all stages take `flops`; None if unknown.

    `plan` has one stage that adds layers, and perhaps a joint one.
    """
    if not plan.stages or plan.flops is None:
        return None
    first = plan.stages[0]
    joint = plan.flops - float((first.tokens or 0) * (first.flops_per_token or 0))
    per_step = (plan.flops - joint) / (first.steps or 1)
    return max(1, round((flops - joint) / per_step))
