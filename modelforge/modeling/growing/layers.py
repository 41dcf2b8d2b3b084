"""Insert new decoder layers into a model so that it computes the same function as before."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from modelforge.config.progressive.checks import GROWABLE
from modelforge.config.progressive.stages import Direction
from modelforge.modeling.pretraining.build import OUTPUT_PROJECTIONS

# Lists of the config with one value per layer.
_LAYER_LISTS = ("layer_types", "no_rope_layers")


def decoder_layers(model: Any) -> nn.ModuleList:
    """Return the decoder layers of a causal model, with or without adapters of PEFT."""
    return model.get_decoder().layers


def insert_layers(
    model: PreTrainedModel,
    count: int,
    *,
    direction: Direction = Direction.APPEND,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> range:
    """Insert layers of random weights whose output projections are zero, and return their indices.

    The logits stay the same to the last bit, also when the model is saved and loaded again; the
    config and the indices of all layers are adapted. Adapters of PEFT must have been merged.

    Args:
        model: causal language model of a known type. It may be quantized: new layers are not, and
            such a model is for training, not for saving, which would quantize them.
        count: number of new layers, at least 1.
        direction: in front of the first layer or behind the last.
        dtype: dtype of the new layers; None for that of the embeddings. Where it differs, the
            layers compute in it, and the layers around them in theirs.
        seed: seed of the weights, which do not depend on the device.

    Raises:
        ValueError: the layers of this type of model are not known, or have experts.
    """
    first = _grow_config(model.config, count, direction)
    embedding = model.get_input_embeddings().weight
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = [_new_layer(model, first + offset) for offset in range(count)]
    for layer in new:
        layer.to(embedding.device, dtype or embedding.dtype).train(model.training)
        if dtype and dtype != embedding.dtype:
            convert_states(layer, dtype)
    old = decoder_layers(model)
    model.get_decoder().layers = layers = nn.ModuleList([*old[:first], *new, *old[first:]])
    for index, layer in enumerate(layers):
        _set_index(layer, index)
    return range(first, first + count)


def convert_states(layer: nn.Module, dtype: torch.dtype) -> None:
    """Let a layer compute in the dtype of its weights, between layers of another dtype.

    What the layer adds to the hidden states is converted back, so that one that adds nothing does
    not round them either.
    """
    forward = layer.forward

    def run(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        inside = hidden_states.to(dtype)
        rest = [_converted(value, dtype) for value in args]
        named = {name: _converted(value, dtype) for name, value in kwargs.items()}
        added = forward(inside, *rest, **named) - inside
        return hidden_states + added.to(hidden_states.dtype)

    layer.forward = run


def _new_layer(model: PreTrainedModel, index: int) -> nn.Module:
    layer = type(decoder_layers(model)[0])(model.config, index)
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=model.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            if name.endswith(OUTPUT_PROJECTIONS):
                weight.zero_()
    return layer


def _set_index(layer: nn.Module, index: int) -> None:
    for module in layer.modules():
        if hasattr(module, "layer_idx"):
            module.layer_idx = index


def _grow_config(config: PreTrainedConfig, count: int, direction: Direction) -> int:
    """Insert the new layers into a config, and return the index of the first one.

    Each is of the kind of the layer that it stands by.
    """
    old = config.num_hidden_layers
    is_sparse = getattr(config, "first_k_dense_replace", old) < old
    if config.model_type not in GROWABLE or is_sparse:
        raise ValueError(f"Layers cannot be added to a model of the type {config.model_type!r}.")
    first = 0 if direction is Direction.PREPEND else old
    config.num_hidden_layers = old + count
    for name in _LAYER_LISTS:
        values = getattr(config, name, None)
        if values:
            copies = [values[min(first, old - 1)]] * count
            setattr(config, name, [*values[:first], *copies, *values[first:]])
    if hasattr(config, "max_window_layers"):
        # Other programs take the layers from this one on for those with a sliding window.
        types = config.layer_types
        is_sliding = "sliding_attention" in types
        config.max_window_layers = types.index("sliding_attention") if is_sliding else len(types)
    if hasattr(config, "first_k_dense_replace"):
        config.first_k_dense_replace = config.num_hidden_layers
    return first


def _converted(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, tuple):
        return tuple(_converted(part, dtype) for part in value)
    is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.to(dtype) if is_float else value
