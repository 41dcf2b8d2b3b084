"""The shape of a model that is trained from nothing: width, heads, windows, parameters and FLOPs.

One number, the depth, gives the rest as in nanochat: width = depth × aspect ratio, rounded up to
whole heads. No torch: the plan needs these numbers before anything is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

# Widths of the MLP are multiples of this, which suits matrix kernels and GGUF blocks.
MLP_MULTIPLE = 64


class Architecture(StrEnum):
    """Which model class of Transformers is built."""

    NANOCHAT = "nanochat"
    LLAMA = "llama"
    QWEN3 = "qwen3"

    @property
    def is_gated(self) -> bool:
        """Whether the MLP has a gate: three matrices instead of two."""
        return self is not Architecture.NANOCHAT


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder.

    Attributes:
        architecture: model class.
        layers: number of decoder layers, at least 1.
        width: size of the hidden states.
        heads: attention heads; heads × head_dim need not equal the width.
        kv_heads: heads of keys and values; divides `heads`.
        head_dim: size of a head.
        mlp_width: inner size of the MLP.
        vocab_size: rows of the embedding and of the head.
        context: most tokens of a sequence.
        windows: how many tokens each layer attends to, at most `context`; one per layer.
        is_tied: whether the head shares the weights of the embedding.
    """

    architecture: Architecture
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    vocab_size: int
    context: int
    windows: tuple[int, ...]
    is_tied: bool = False

    @property
    def block_parameters(self) -> int:
        """Weights of the matrices inside the layers."""
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        matrices = 3 if self.architecture.is_gated else 2
        return self.layers * (attention + matrices * self.width * self.mlp_width)

    @property
    def head_parameters(self) -> int:
        """Weights of the output head, tied or not."""
        return self.vocab_size * self.width

    @property
    def norm_parameters(self) -> int:
        """Weights of the norms; NanoChat's norms have none."""
        if self.architecture is Architecture.NANOCHAT:
            return 0
        per_head = 2 * self.head_dim if self.architecture is Architecture.QWEN3 else 0
        return self.layers * (2 * self.width + per_head) + self.width

    @property
    def scaling_parameters(self) -> int:
        """Weights that are multiplied for each token: layers and head, without the embedding."""
        return self.block_parameters + self.head_parameters

    @property
    def parameters(self) -> int:
        """All weights."""
        embedding = 0 if self.is_tied else self.head_parameters
        return self.scaling_parameters + embedding + self.norm_parameters

    @property
    def flops_per_token(self) -> int:
        """FLOPs of a training step per token, forward and backward.

        6 per weight of a matrix, and 12 × heads × head_dim × window per layer for attention.
        """
        attention = 12 * self.heads * self.head_dim * sum(self.windows)
        return 6 * self.scaling_parameters + attention


def shape_of_depth(
    depth: int,
    *,
    aspect_ratio: int,
    head_dim: int,
    vocab_size: int,
    context: int,
    architecture: Architecture = Architecture.NANOCHAT,
    window_pattern: str = "L",
) -> ModelShape:
    """Return the shape that a depth gives; all sizes are at least 1."""
    heads = ceil(depth * aspect_ratio / head_dim)
    width = heads * head_dim
    return ModelShape(
        architecture=architecture,
        layers=depth,
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        mlp_width=mlp_width(width, architecture),
        vocab_size=vocab_size,
        context=context,
        windows=windows_of(window_pattern, depth, context),
    )


def mlp_width(width: int, architecture: Architecture) -> int:
    """Return the inner size of the MLP: 4 × width; with a gate 8/3 × width, as many weights."""
    if not architecture.is_gated:
        return 4 * width
    return ceil(8 * width / 3 / MLP_MULTIPLE) * MLP_MULTIPLE


def windows_of(pattern: str, layers: int, context: int) -> tuple[int, ...]:
    """Return how many tokens each layer attends to.

    The pattern of the letters S (half the context) and L (all of it) is repeated over the layers;
    the last layer always has the whole context.
    """
    short = max(1, context // 2)
    sizes = [short if pattern[layer % len(pattern)] == "S" else context for layer in range(layers)]
    return (*sizes[:-1], context)


def is_pattern(text: str) -> bool:
    """Return whether a text is a window pattern: letters S and L, at least one."""
    return bool(text) and set(text) <= {"S", "L"}


def layer_types(windows: Sequence[int], context: int) -> list[str]:
    """Return Transformers' `layer_types` of windows."""
    return ["full_attention" if size >= context else "sliding_attention" for size in windows]
