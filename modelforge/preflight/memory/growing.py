"""The memory of each stage of a growing model, estimated from its sizes."""

from __future__ import annotations

from dataclasses import replace

from modelforge.config.optimizers import BYTES_PER_WEIGHT, OPTIMIZERS, TrainedSizes
from modelforge.config.plan.growing import PlannedStage
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.memory.block import (
    Trains,
    adapter_bytes,
    bytes_without_adapter,
    plain_bytes,
)
from modelforge.preflight.memory.estimate import (
    MemoryPart,
    activations,
    logits,
    overhead,
    total_gib,
)
from modelforge.units import GIB

# Bytes of a weight of a quantized trunk: in 4 bits with a scale of 32 bits per 64 weights.
_STORED = {**BYTES_PER_WEIGHT, "4-bit": 0.5 + 4 / 64}


def largest_stage(
    config: TrainingConfig, plan: Plan, model: ModelInfo, length: int, *, is_cuda_build: bool
) -> list[MemoryPart]:
    """Return the parts of the stage that takes the most memory; empty where sizes are unknown.

    Args:
        config: the settings.
        plan: the plan of a growing model.
        model: the model that grows, or that a training from nothing makes.
        length: tokens of the longest row.
        is_cuda_build: whether the installed PyTorch is built for CUDA.
    """
    assert plan.growing is not None, "the method is growing"
    stages = [
        stage_memory(config, plan, model, stage, length, is_cuda_build=is_cuda_build)
        for stage in plan.growing.stages
    ]
    return max(stages, key=lambda parts: total_gib(parts) or 0.0, default=[])


def stage_memory(
    config: TrainingConfig,
    plan: Plan,
    model: ModelInfo,
    stage: PlannedStage,
    length: int,
    *,
    is_cuda_build: bool = False,
) -> list[MemoryPart]:
    """Return the parts of one stage; empty where the sizes of the model are unknown.

    Frozen weights have neither gradients nor a state of the optimizer, and layers below the first
    one that trains save no activations.
    """
    if stage.parameters is None or stage.trained is None or not model.layer_matrices:
        return []
    info = replace(model, layers=stage.layers, parameters=stage.parameters)
    largest = max(rows * columns for rows, columns in model.layer_matrices)
    sizes, optimizer = TrainedSizes(stage.trained, 0, largest), OPTIMIZERS[plan.optim]
    size = 4.0 if config.progressive.new_layer_dtype == "float32" or stage.adapters else 2.0
    parts = {
        "weights": _weight_bytes(config, plan, info, stage),
        "adapter": 0.0,
        "gradients": stage.trained * size,
        "optimizer": optimizer.state_bytes(sizes, 4),
        "activations": stage_activations(config, plan, info, stage, length),
        "logits": logits(config, plan, info, length),
    }
    transient = optimizer.transient_bytes(sizes, plan.device)
    parts["optimizer"] += max(0.0, transient - parts["activations"] - parts["logits"])
    parts["overhead"] = overhead(config, plan, parts["activations"], is_cuda_build=is_cuda_build)
    return [MemoryPart(name, value / GIB) for name, value in parts.items()]


def stage_activations(
    config: TrainingConfig, plan: Plan, model: ModelInfo, stage: PlannedStage, length: int
) -> float:
    """Return the bytes of the activations of a stage; `model` has its layers."""
    kept = kept_by_layer(config, plan, model, stage, length)
    above = replace(model, layers=len(kept))
    trains_head = not stage.new_layers or (plan.is_from_nothing and not stage.frozen_layers)
    plan = plan if trains_head else replace(plan, trains="adapter")
    return activations(config, plan, above, length, block=sum(kept) / len(kept))


def kept_by_layer(
    config: TrainingConfig, plan: Plan, model: ModelInfo, stage: PlannedStage, length: int
) -> list[float]:
    """Return the bytes per token that each layer keeps, from the first one that trains on.

    Layers whose weights train keep the most, and frozen ones, through which gradients pass, the
    least. Those below the first one that trains keep nothing.
    """
    return [
        bytes_without_adapter(config, plan, model, length, trains) + adapter_bytes(rank, model)
        for trains, rank in _saved_layers(config, stage)
    ]


def _saved_layers(config: TrainingConfig, stage: PlannedStage) -> list[tuple[Trains, int]]:
    """Return what trains in each layer from the first that trains on, and the rank of adapters."""
    group = config.progressive
    ranks: dict[int, int] = {}
    for name, layers in stage.adapters.items():
        rank = group.trunk_rank if name == "trunk" else group.stack_rank
        ranks |= {layer: ranks.get(layer, 0) + rank for layer in layers}
    whole = set(stage.new_layers or stage.trained_layers)
    found: list[tuple[Trains, int]] = []
    for layer in range(min(stage.trained_layers), stage.layers):
        trains: Trains = "all" if layer in whole else "adapter" if layer in ranks else "frozen"
        found.append((trains, ranks.get(layer, 0)))
    return found


def _weight_bytes(
    config: TrainingConfig, plan: Plan, model: ModelInfo, stage: PlannedStage
) -> float:
    """Return the bytes of weights: those that train in their own format, the trunk in its own."""
    size = 4 if plan.weights_dtype == "float32" else plain_bytes(plan)
    new = min(stage.trained or 0, stage.parameters or 0)
    frozen = (stage.parameters or 0) - new
    linear = max(0, frozen - model.embedding_weights) if frozen else 0
    stored = _STORED.get(plan.quantization, float(size))
    trained = 4.0 if config.progressive.new_layer_dtype == "float32" else 2.0
    return linear * stored + (frozen - linear) * size + (stage.trained or 0) * trained
