"""Parameters and FLOPs of the stages of growing a model."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from modelforge.config.pretraining.shape import Architecture, ModelShape
from modelforge.config.progressive.stages import StagePlan


@dataclass(frozen=True)
class LayerSizes:
    """Sizes of a model of equal layers.

    Attributes:
        matrices: (inputs, outputs) of each linear layer in a decoder layer.
        layer_vectors: other weights in a decoder layer, such as those of norms.
        final_vectors: weights of the final norm.
        embedding: weights of the embedding, and as many in the head.
        is_tied: whether embedding and head are the same weights.
        scores: heads × size of a head × tokens that a token attends to.
    """

    matrices: tuple[tuple[int, int], ...]
    layer_vectors: int
    final_vectors: int
    embedding: int
    is_tied: bool
    scores: int

    @property
    def layer_matrices(self) -> int:
        """Weights of the matrices in a decoder layer."""
        return sum(map(prod, self.matrices))

    @property
    def layer(self) -> int:
        """Weights of a decoder layer."""
        return self.layer_matrices + self.layer_vectors


@dataclass(frozen=True)
class StageCost:
    """What a stage costs.

    Attributes:
        parameters: weights of the model, without adapters.
        trained: weights and weights of adapters that train.
        adapters: weights of adapters.
        flops_per_token: FLOPs of a training step per token, forward and backward.
    """

    parameters: int
    trained: int
    adapters: int
    flops_per_token: int


def sizes_of_shape(shape: ModelShape) -> LayerSizes:
    """Return the sizes of a model that is trained from nothing; its windows have their mean."""
    heads, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = ((shape.width, heads), (shape.width, keys), (shape.width, keys))
    up = ((shape.width, shape.mlp_width),) * (2 if shape.architecture.is_gated else 1)
    has_norms = shape.architecture is not Architecture.NANOCHAT
    final = shape.width if has_norms else 0
    return LayerSizes(
        matrices=(*attention, (heads, shape.width), *up, (shape.mlp_width, shape.width)),
        layer_vectors=(shape.norm_parameters - final) // shape.layers,
        final_vectors=final,
        embedding=shape.head_parameters,
        is_tied=shape.is_tied,
        scores=heads * sum(shape.windows) // shape.layers,
    )


def stage_cost(stage: StagePlan, sizes: LayerSizes, *, is_cached: bool = False) -> StageCost:
    """Return the cost of a stage; with `is_cached` the outputs of the trunk are stored.

    A matrix takes 2 FLOPs per weight forward, 2 for the gradient of its input and 2 for its own;
    the scores of attention take 4 forward and 8 backward. Layers below the first saved one have
    no backward pass, and frozen ones above it no gradients of their own.
    """
    outside = sizes.embedding * (1 if sizes.is_tied else 2) + sizes.final_vectors
    adapters = sum(
        size.rank * sum(map(sum, sizes.matrices))
        for adapter in stage.adapters
        for size in adapter.sizes.values()
    )
    # A tied head is the embedding, and trains where that does.
    trains_head = stage.trains_embeddings if sizes.is_tied else stage.trains_head
    matrices = stage.trains_embeddings + (trains_head and not sizes.is_tied)
    vectors = sizes.final_vectors if stage.trains_head else 0
    saved, full = stage.layers - stage.first_saved_layer, len(stage.full_layers)
    forward = saved if is_cached else stage.layers
    flops = sizes.layer_matrices * 2 * (forward + saved + full)
    flops += sizes.scores * (4 * forward + 8 * saved)
    flops += sizes.embedding * 2 * (2 + trains_head) + 6 * adapters
    return StageCost(
        parameters=stage.layers * sizes.layer + outside,
        trained=full * sizes.layer + matrices * sizes.embedding + vectors + adapters,
        adapters=adapters,
        flops_per_token=flops,
    )
