"""The part of the plan about growing: the stages, with their steps, parameters and FLOPs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from modelforge.config.plan.context import ChangeLog, PlanContext
from modelforge.config.plan.run_length import planned_epoch
from modelforge.config.pretraining.settings import shape_of
from modelforge.config.progressive.cost import LayerSizes, sizes_of_shape, stage_cost
from modelforge.config.progressive.settings import growth_of
from modelforge.config.progressive.stages import StagePlan, stage_plans
from modelforge.config.schema.config import TrainingConfig


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a growing model; layers are numbered as in the model of the stage.

    Attributes:
        name: Name for people.
        layers: Layers of the model.
        new_layers, trained_layers, frozen_layers: Layers that are added, that train, that do not.
        adapters: Layers by the name of an adapter that trains.
        saved_share: Share of the layers whose activations are saved.
        steps: Optimizer steps; None while the number of rows is unknown.
        tokens: Tokens that are read, without padding; None while they are unknown.
        parameters: Weights of the model without adapters; None where its sizes are unknown.
        trained: Weights that train, with those of adapters.
        flops_per_token: FLOPs of a training step per token, the mean where a trunk is stored.
    """

    layers: int
    new_layers: list[int]
    trained_layers: list[int]
    frozen_layers: list[int]
    name: str = ""
    adapters: dict[str, list[int]] = field(default_factory=dict)
    saved_share: float = 1.0
    steps: int | None = None
    tokens: int | None = None
    parameters: int | None = None
    trained: int | None = None
    flops_per_token: int | None = None


@dataclass(frozen=True)
class GrowthPlan:
    """How a model grows.

    Attributes:
        base_layers: Layers of the model that grows; None where they are unknown, 0 for none.
        stage_steps: Steps of a stage that adds layers; None while they are unknown.
        joint_steps: Steps of the last stage, which trains all weights; 0 without one.
        epochs: Passes over the rows in a stage that adds layers.
        stages: The stages; empty where the layers of the model are unknown.
    """

    base_layers: int | None
    stage_steps: int | None
    joint_steps: int = 0
    epochs: float | None = None
    stages: list[PlannedStage] = field(default_factory=list)

    @property
    def flops(self) -> float | None:
        """FLOPs of all stages; None while they are unknown."""
        parts = [
            float(stage.tokens * stage.flops_per_token)
            for stage in self.stages
            if stage.tokens and stage.flops_per_token
        ]
        return sum(parts) if parts and len(parts) == len(self.stages) else None

    @property
    def tokens(self) -> int | None:
        """Tokens of all stages; None while they are unknown."""
        parts = [stage.tokens for stage in self.stages if stage.tokens]
        return sum(parts) if parts and len(parts) == len(self.stages) else None


def growth_plan(
    config: TrainingConfig, context: PlanContext, length: int, log: ChangeLog
) -> GrowthPlan | None:
    """Return the plan of growing; None for other trainings.

    Args:
        config: the settings, which the rules have accepted.
        context: rows, tokens of a row, and the sizes of the model.
        length: longest row in tokens.
        log: gets the settings that have no effect.
    """
    group = config.progressive
    if not group.enabled:
        return None
    base = 0 if config.pretraining.enabled else context.layers
    steps, epochs, per_step = _steps(config, context, length)
    if group.steps_per_stage is not None and "epochs_per_stage" in group.model_fields_set:
        reason = "progressive.steps_per_stage decides the length of a stage."
        log.record("progressive.epochs_per_stage", epochs and round(epochs, 3), reason)
    is_other = epochs is not None and config.num_train_epochs != epochs
    if "num_train_epochs" in config.model_fields_set and is_other:
        reason = f"Each of the {group.stages} stages has this length."
        log.record("num_train_epochs", epochs and round(epochs, 3), reason)
    plan = GrowthPlan(base, steps, group.joint_tuning_steps, epochs)
    if base is None:
        return plan
    sizes = _sizes(config, context, length)
    # From the second time on that a stage reads its rows, the trunk is stored.
    stored = max(0.0, 1 - 1 / epochs) if group.cache_activations and epochs else 0.0
    planned = []
    for stage in stage_plans(growth_of(config, base)):
        count = group.joint_tuning_steps if stage.is_joint else steps
        tokens = round(count * per_step) if count and per_step else None
        made = _planned(stage, sizes, stored if stage.has_fixed_trunk else 0.0)
        name = stage_name(stage, group.stages)
        planned.append(replace(made, name=name, steps=count, tokens=tokens))
    return replace(plan, stages=planned)


def length_fields(config: TrainingConfig, growing: GrowthPlan | None) -> dict[str, Any]:
    """Return the fields of the plan about the length of all stages, and the rate; none without."""
    if growing is None:
        return {}
    stages, steps = config.progressive.stages, growing.stage_steps
    has_steps = config.progressive.steps_per_stage is not None
    return {
        "total_steps": None if steps is None else stages * steps + growing.joint_steps,
        "length_by": f"progressive.{'steps' if has_steps else 'epochs'}_per_stage",
        "epochs": growing.epochs,
        "tokens": growing.tokens,
        "flops": growing.flops,
        "learning_rate": config.learning_rate,
        "growing": growing,
    }


def stage_name(stage: StagePlan, stages: int) -> str:
    """Return the name of a stage for people; `stages` is the number of those that add layers."""
    if stage.is_joint:
        return "All layers together"
    return f"Stack {stage.index + 1} of {stages}"


def _steps(
    config: TrainingConfig, context: PlanContext, length: int
) -> tuple[int | None, float | None, float | None]:
    """Return steps and epochs of a stage, and the tokens of a step; None where unknown."""
    group = config.progressive
    if context.train_rows is None:
        return group.steps_per_stage, None, None
    epoch = planned_epoch(config, context.train_rows, context.row_tokens, length)
    per_step = epoch.tokens / epoch.steps if epoch.tokens else None
    if group.steps_per_stage is not None:
        return group.steps_per_stage, group.steps_per_stage / epoch.steps, per_step
    return epoch.steps * group.epochs_per_stage, float(group.epochs_per_stage), per_step


def _sizes(config: TrainingConfig, context: PlanContext, length: int) -> LayerSizes | None:
    if config.pretraining.enabled:
        vocabulary = context.vocab_size
        return sizes_of_shape(shape_of(config.pretraining, context=length, vocab_size=vocabulary))
    if context.layer_sizes is None:
        return None
    row = length if config.packing else min(context.row_tokens or length, length)
    return replace(context.layer_sizes, scores=round(context.layer_sizes.scores * row))


def _planned(stage: StagePlan, sizes: LayerSizes | None, stored: float) -> PlannedStage:
    """Return a stage without its length; `stored` is the share of tokens that skip the trunk."""
    cost, flops = stage_cost(stage, sizes) if sizes else None, None
    if cost and sizes:
        cached = stage_cost(stage, sizes, is_cached=True).flops_per_token
        flops = round((1 - stored) * cost.flops_per_token + stored * cached)
    return PlannedStage(
        layers=stage.layers,
        new_layers=list(stage.new_layers),
        trained_layers=list(stage.trained_layers),
        frozen_layers=list(stage.frozen_layers),
        adapters={adapter.name: list(adapter.sizes) for adapter in stage.adapters},
        saved_share=stage.saved_share,
        parameters=cost.parameters if cost else None,
        trained=cost.trained if cost else None,
        flops_per_token=flops,
    )
