"""The stages of a growing model with their memory and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated

from modelforge.config.plan.growing import PlannedStage
from modelforge.config.schema.base import Gib, about
from modelforge.preflight.memory.estimate import MemoryPart, total_gib
from modelforge.preflight.memory.growing import stage_memory
from modelforge.preflight.memory.traced import longest_row_tokens
from modelforge.preflight.speed import estimate_step

if TYPE_CHECKING:
    from modelforge.preflight.context import RunContext

# Clipping a gradient and a step of AdamW, on one thread of an EPYC.
SECONDS_PER_TRAINED_WEIGHT = 3e-9


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """A stage of a growing model; numbers are approximate, None is unknown."""

    name: Annotated[str, about("Name of the stage.")]
    layers: Annotated[int, about("Layers of the model in this stage.")]
    new_layers: Annotated[list[int], about("Layers that it adds; empty in the joint stage.")]
    trained_layers: Annotated[list[int], about("Layers with weights or adapters that train.")]
    frozen_layers: Annotated[list[int], about("Layers in which nothing trains.")]
    adapters: Annotated[dict[str, list[int]], about("Layers by the name of an adapter.")]
    steps: Annotated[int | None, about("Optimizer steps.")] = None
    parameters: Annotated[int | None, about("Weights of the model.")] = None
    trained: Annotated[int | None, about("Weights that train, with those of adapters.")] = None
    flops_per_token: Annotated[int | None, about("FLOPs of a token.")] = None
    memory_gib: Gib = None
    memory: Annotated[list[MemoryPart], about("The parts of its memory.")] = field(
        default_factory=list
    )
    seconds: Annotated[float | None, about("Seconds of its steps.")] = None


def stage_estimates(context: RunContext) -> list[StageEstimate]:
    """Return the stages of a growing model; empty for other trainings."""
    growing, model = context.plan.growing, context.model
    if growing is None or model is None:
        return []
    length = longest_row_tokens(context.config, context.plan, context.summary)
    is_cuda_build = bool(context.machine.torch_cuda)
    factor = context.step_time_factor or 1.0
    seconds: Sequence[float | None] = [each * factor for each in stage_seconds(context)]
    seconds = seconds or [None] * len(growing.stages)
    names = {each.name for each in fields(StageEstimate)} & {
        each.name for each in fields(PlannedStage)
    }
    estimates = []
    for stage, taken in zip(growing.stages, seconds, strict=True):
        parts = stage_memory(
            context.config, context.plan, model, stage, length, is_cuda_build=is_cuda_build
        )
        known = {name: getattr(stage, name) for name in names}
        estimates.append(
            StageEstimate(**known, memory=parts, memory_gib=total_gib(parts), seconds=taken)
        )
    return estimates


def at_once_gib(context: RunContext) -> float | None:
    """Return the memory of adding all layers in one stage; None for other trainings."""
    group = context.config.progressive
    if context.plan.growing is None or group.stages == 1:
        return None
    layers = group.stages * group.layers_per_stage
    settings = {"stages": 1, "layers_per_stage": layers, "joint_tuning_steps": 0, "mode": "fused"}
    changes = {f"progressive.{name}": value for name, value in settings.items()}
    return context.with_settings(changes).formula_gib or None


def stage_seconds(context: RunContext) -> list[float]:
    """Return about how long the steps of each stage of a growing model take; empty if unknown.

    A step takes the share of the time of training the whole base model that its FLOPs are, and on
    the CPU that of its optimizer, which is not small where all weights train. As in `estimate_step`
    the last runs on the device are not taken into account.
    """
    growing, model, step = context.plan.growing, context.model, estimate_step(context)
    if growing is None or model is None or step is None:
        return []
    full = 6 * (model.linear_weights + (model.vocab or 0) * (model.hidden_size or 0))
    if any(stage.steps is None or stage.flops_per_token is None for stage in growing.stages):
        return []
    per_weight = SECONDS_PER_TRAINED_WEIGHT if context.plan.device == "cpu" else 0.0
    return [
        (stage.steps or 0)
        * (step.seconds * (stage.flops_per_token or 0) / full + per_weight * (stage.trained or 0))
        for stage in growing.stages
    ]


def step_seconds(context: RunContext) -> float | None:
    """Return the seconds of a step by the formula, of the last stage of a growing model."""
    stages, step = stage_seconds(context), estimate_step(context)
    if stages and context.plan.growing is not None:
        return stages[-1] / (context.plan.growing.stages[-1].steps or 1)
    return step.seconds if step else None
