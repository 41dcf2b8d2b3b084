"""Stages of growing a model: layers that are new, train or are frozen, adapters and rates.

A stack is the group of layers that one stage adds; the trunk is all layers that were there before.
Layers are numbered as in the model of the stage: after new layers in front, all others move up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from modelforge.config.progressive.adapter_sizes import AdapterSize, StackSizes


class Mode(StrEnum):
    """What a stage may add and train; the stages are trained in the same way.

    Layerwise a stack is one layer, blockwise one or more, behind a frozen trunk. Fused also allows
    adapters in the trunk and new layers in front of it.
    """

    LAYERWISE = "layerwise"
    BLOCKWISE = "blockwise"
    FUSED = "fused"


class Direction(StrEnum):
    """Where new stacks are inserted: behind the last layer, or in front of the first."""

    APPEND = "append"
    PREPEND = "prepend"


class Trunk(StrEnum):
    """What trains in the trunk: nothing, or its adapters; its weights never do."""

    FROZEN = "frozen"
    LORA = "lora"


class RateGroup(StrEnum):
    """Which of the learning rates a parameter has."""

    TRUNK = "trunk"
    BLOCK = "block"
    ADAPTERS = "adapters"


@dataclass(frozen=True)
class Growth:
    """How a model grows.

    Attributes:
        base_layers: layers of the model that grows; 0 for training from nothing.
        stages: number of stacks, at least 1.
        layers_per_stage: layers of a stack, at least 1.
        mode: what a stage may add and train.
        direction: where new stacks are inserted.
        trunk: what trains in the trunk.
        stack_sizes: sizes of the adapters of the stacks; None for no such adapters.
        trunk_size: size of the adapter of the whole trunk, with `Trunk.LORA`; None for none.
        freezes_embeddings: whether the embeddings of a model from nothing are frozen.
        ends_jointly: whether a last stage trains all weights.
    """

    base_layers: int
    stages: int
    layers_per_stage: int
    mode: Mode = Mode.FUSED
    direction: Direction = Direction.APPEND
    trunk: Trunk = Trunk.FROZEN
    stack_sizes: StackSizes | None = None
    trunk_size: AdapterSize | None = None
    freezes_embeddings: bool = False
    ends_jointly: bool = False

    @property
    def layers(self) -> int:
        """Layers of the grown model."""
        return self.base_layers + self.stages * self.layers_per_stage

    def stack_layers(self, stack: int, stage: int) -> range:
        """Return the layers of a stack in the model of a stage, which is `stack` or later."""
        size = self.layers_per_stage
        is_front = self.direction is Direction.PREPEND
        first = (stage - stack) * size if is_front else self.base_layers + stack * size
        return range(first, first + size)


@dataclass(frozen=True)
class AdapterPlan:
    """An adapter that trains in a stage: its name in PEFT, and the size in each of its layers."""

    name: str
    sizes: Mapping[int, AdapterSize]


@dataclass(frozen=True)
class StagePlan:
    """What one stage trains.

    Attributes:
        index: number of the stage, from 0.
        layers: layers of the model in this stage.
        new_layers: layers that the stage adds; empty in the joint stage.
        full_layers: layers whose weights train.
        adapters: adapters that train; those of earlier stages are merged before.
        trains_embeddings: whether the token embeddings train.
        trains_head: whether the final norm and the head train.
    """

    index: int
    layers: int
    new_layers: range
    full_layers: range
    adapters: tuple[AdapterPlan, ...] = ()
    trains_embeddings: bool = False
    trains_head: bool = False

    @property
    def is_joint(self) -> bool:
        """Whether this is the joint stage at the end, which adds no layers."""
        return not self.new_layers

    @property
    def trained_layers(self) -> tuple[int, ...]:
        """Layers with weights or adapters that train, ascending."""
        adapted = {layer for adapter in self.adapters for layer in adapter.sizes}
        return tuple(sorted(adapted | set(self.full_layers)))

    @property
    def frozen_layers(self) -> tuple[int, ...]:
        """Layers in which nothing trains."""
        return tuple(sorted(set(range(self.layers)) - set(self.trained_layers)))

    @property
    def first_saved_layer(self) -> int:
        """First layer whose activations the backward pass needs; those below save none.

        With new layers in front it is 0: gradients pass through the frozen layers above them.
        """
        return min(self.trained_layers)

    @property
    def saved_share(self) -> float:
        """Share of the layers whose activations the backward pass needs, above 0 to 1."""
        return (self.layers - self.first_saved_layer) / self.layers

    @property
    def has_fixed_trunk(self) -> bool:
        """Whether layers below the first saved one have the same output for the same tokens."""
        return self.first_saved_layer > 0

    @property
    def rate_groups(self) -> tuple[RateGroup, ...]:
        """Groups with a parameter that trains; embeddings and head have the rate of the trunk."""
        is_used = {
            RateGroup.TRUNK: self.is_joint or self.trains_embeddings or self.trains_head,
            RateGroup.BLOCK: not self.is_joint,
            RateGroup.ADAPTERS: bool(self.adapters),
        }
        return tuple(group for group in RateGroup if is_used[group])

    def rate_group(self, layer: int) -> RateGroup:
        """Return the group of the weights of a layer; its adapters have a group of their own."""
        return RateGroup.BLOCK if layer in self.new_layers else RateGroup.TRUNK


def stage_plans(growth: Growth) -> tuple[StagePlan, ...]:
    """Return the stages in the order of training, the joint one last."""
    stages = tuple(_stage(growth, index) for index in range(growth.stages))
    if not growth.ends_jointly:
        return stages
    joint = StagePlan(
        index=growth.stages,
        layers=growth.layers,
        new_layers=range(0),
        full_layers=range(growth.layers),
        trains_embeddings=not growth.freezes_embeddings,
        trains_head=True,
    )
    return (*stages, joint)


def _stage(growth: Growth, index: int) -> StagePlan:
    new = growth.stack_layers(index, index)
    is_first_of_all = not growth.base_layers and not index
    return StagePlan(
        index=index,
        layers=growth.base_layers + (index + 1) * growth.layers_per_stage,
        new_layers=new,
        full_layers=new,
        adapters=_adapters(growth, index),
        trains_embeddings=is_first_of_all and not growth.freezes_embeddings,
        trains_head=is_first_of_all,
    )


def _adapters(growth: Growth, index: int) -> tuple[AdapterPlan, ...]:
    """Return the adapters of a stage; a frozen trunk has none."""
    is_frozen = growth.trunk is Trunk.FROZEN
    adapters = []
    if growth.stack_sizes:
        stacks = [index] if is_frozen else range(index + 1)
        sizes = {
            layer: growth.stack_sizes.of(stack)
            for stack in stacks
            for layer in growth.stack_layers(stack, index)
        }
        adapters.append(AdapterPlan("stack", dict(sorted(sizes.items()))))
    new = growth.stack_layers(index, index)
    count = growth.base_layers + (index + 1) * growth.layers_per_stage
    below = [layer for layer in range(count) if layer not in new]
    if growth.trunk_size and below and not is_frozen:
        adapters.append(AdapterPlan("trunk", dict.fromkeys(below, growth.trunk_size)))
    return tuple(adapters)
