"""The shape of the model that the settings of a training from nothing describe."""

from __future__ import annotations

from dataclasses import replace

from modelforge.config.pretraining.shape import (
    Architecture,
    ModelShape,
    mlp_width,
    shape_of_depth,
    windows_of,
)
from modelforge.config.schema.pretraining import Pretraining


def shape_of(
    group: Pretraining, *, context: int, vocab_size: int | None = None, depth: int | None = None
) -> ModelShape:
    """Return the shape of the model.

    Args:
        group: the settings, which the rules have accepted.
        context: tokens of a window.
        vocab_size: tokens of a borrowed tokenizer; None for the size that is set.
        depth: another depth with the same other settings; layers and width are then its own.
    """
    architecture = Architecture(group.arch)
    shape = shape_of_depth(
        depth or group.depth,
        aspect_ratio=group.aspect_ratio,
        head_dim=group.head_dim,
        vocab_size=vocab_size or group.vocab_size,
        context=context,
        architecture=architecture,
        window_pattern=group.window_pattern,
    )
    is_own = depth is None or depth == group.depth
    layers = (group.n_layers or group.depth) if is_own else shape.layers
    width = (group.d_model or shape.width) if is_own else shape.width
    heads = (group.n_heads if is_own else None) or width // group.head_dim
    return replace(
        shape,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=(group.n_kv_heads if is_own else None) or heads,
        head_dim=width // heads,
        mlp_width=(group.d_ff if is_own else None) or mlp_width(width, architecture),
        windows=windows_of(group.window_pattern, layers, context),
        is_tied=group.tie_embeddings,
    )
