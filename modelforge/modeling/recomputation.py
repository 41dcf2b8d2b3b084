"""Gradient checkpointing of every n-th layer, with its inputs on the GPU or on the host."""

from __future__ import annotations

from typing import Any

from transformers.modeling_layers import GradientCheckpointingLayer

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.generation_config import Note


class LayerRecomputation:
    """Replaces `gradient_checkpointing_enable` of a model.

    Transformers' trainer passes on which layers are recomputed; TRL switches checkpointing off and
    on again without them, and PEFT switches it on by itself.

    Attributes:
        every: The first of so many layers is recomputed.
        offload: Whether the inputs of recomputed layers wait in the memory of the host.
    """

    def __init__(self, model: Any, every: int, *, offload: bool) -> None:
        self._enable = model.gradient_checkpointing_enable
        self.every, self.offload = every, offload

    def __call__(self, gradient_checkpointing_kwargs: Any = None, **_others: Any) -> None:
        """Switch gradient checkpointing on."""
        self._enable(gradient_checkpointing_kwargs, every_n_layers=self.every, offload=self.offload)


def choose_layers(model: Any, config: TrainingConfig, plan: Plan) -> list[Note]:
    """Let gradient checkpointing of the model recompute the configured layers.

    Return notes for the user.
    """
    every = config.memory.checkpoint_every_n_layers
    if every == 1 and not plan.activation_offload:
        return []
    model.gradient_checkpointing_enable = LayerRecomputation(
        model, every, offload=plan.activation_offload
    )
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    if every > 1 and not layers:
        text = f"All layers are recomputed: those of {type(model).__name__} cannot be chosen."
        return [("layers-not-chosen", text)]
    return []


def recompute_every_layer(model: Any, arguments: dict[str, Any]) -> None:
    """Switch gradient checkpointing on for every layer; `arguments` are those of torch."""
    enable = model.gradient_checkpointing_enable
    if isinstance(enable, LayerRecomputation):
        enable.every = 1
    enable(gradient_checkpointing_kwargs=arguments)


def skips_layers(model: Any) -> bool:
    """Return whether gradient checkpointing recomputes only some of the layers."""
    enable = getattr(model, "gradient_checkpointing_enable", None)
    return isinstance(enable, LayerRecomputation) and enable.every > 1
