"""What trains in a stage: gradients, learning rates, and a trunk that runs without autograd."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from modelforge.config.progressive.stages import RateGroup, StagePlan
from modelforge.modeling.growing.embeddings import AdaptedEmbedding
from modelforge.modeling.growing.layers import decoder_layers

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


class TrunkWithoutGrad:
    """Runs the embeddings and the first layers of a model without autograd until `release`.

    Nothing in them saves activations, with gradient checkpointing neither, even where it makes the
    output of the embeddings require gradients. Gradient checkpointing must not be reentrant.
    """

    def __init__(self, model: Any, layers: int) -> None:
        """Wrap the model: `layers` is the number of first layers, from 0 (nothing is wrapped)."""
        below = decoder_layers(model)[:layers]
        modules: list[nn.Module] = [model.get_input_embeddings(), *below] if layers else []
        self._before = [(module, module.forward) for module in modules]
        for module, forward in self._before:
            module.forward = torch.no_grad()(forward)

    def release(self) -> None:
        """Let the layers run as before."""
        for module, forward in self._before:
            module.forward = forward
        self._before = []


def prepare_stage(model: Any, stage: StagePlan) -> TrunkWithoutGrad:
    """Set which parameters of a model have gradients in a stage.

    The model is a causal one of Transformers that has the layers of the stage and, where the stage
    has adapters, these. Call `release` of the result before the next stage. Head and embeddings
    that are tied train only where the stage trains the embeddings; of borrowed embeddings with an
    adapter only the adapter does.
    """
    model.requires_grad_(False)
    if stage.trains_head:
        model.get_decoder().norm.requires_grad_(True)
        model.get_output_embeddings().requires_grad_(True)
    embedding = model.get_input_embeddings()
    embedding.requires_grad_(stage.trains_embeddings)
    if isinstance(embedding, AdaptedEmbedding):
        embedding.source.requires_grad_(False)
    for index in stage.full_layers:
        decoder_layers(model)[index].requires_grad_(True)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(True)
    return TrunkWithoutGrad(model, stage.first_saved_layer)


def parameter_groups(
    model: Any, stage: StagePlan, rates: dict[RateGroup, float]
) -> list[dict[str, Any]]:
    """Return the groups of an optimizer: `params`, `lr` and `name`, without empty ones.

    Only parameters with gradients are in them, so that no other has a state in the optimizer.
    """
    members: dict[RateGroup, list[nn.Parameter]] = {group: [] for group in RateGroup}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[_group(name, stage)].append(parameter)
    return [
        {"params": members[group], "lr": rates[group], "name": group.value}
        for group in RateGroup
        if members[group]
    ]


def _group(name: str, stage: StagePlan) -> RateGroup:
    if "lora_" in name:
        return RateGroup.ADAPTERS
    match = _LAYER.search(name)
    return stage.rate_group(int(match[1])) if match else RateGroup.TRUNK
