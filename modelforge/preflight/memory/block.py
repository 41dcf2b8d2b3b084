"""What a decoder block keeps for the backward pass, in bytes per token."""

from __future__ import annotations

from typing import Literal, NamedTuple

from modelforge.config.plan.make import Plan
from modelforge.config.plan.weights import VARLEN
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo

# What trains in a block: its weights, adapters, or nothing, where layers below it train.
Trains = Literal["all", "adapter", "frozen"]


class _Widths(NamedTuple):
    """Widths of a block, or bytes that it keeps per token for each of them."""

    hidden: int
    queries: int
    keys: int
    intermediate: int


# What autograd saves in a block, by bytes per number and by what is trained. Read off traces of the
# training code (modelforge/train/memory_trace/trace.py): 8 shapes of Llama and 8 of Qwen3 with
# Transformers 5.17 and PEFT 0.21; these integers give all 16 to 1 %.
_SAVED = {
    (4, "all"): _Widths(24, 8, 8, 16),
    (2, "all"): _Widths(26, 4, 4, 8),
    (4, "adapter"): _Widths(16, 8, 8, 16),
    (2, "adapter"): _Widths(18, 6, 4, 8),
    # Nothing trains in it, and gradients pass through it to layers below.
    (4, "frozen"): _Widths(8, 8, 8, 12),
    (2, "frozen"): _Widths(8, 4, 4, 6),
}
# Model families that normalize queries and keys save these bytes more of both.
_NORMED = {
    (4, "all"): 8,
    (2, "all"): 6,
    **dict.fromkeys(((4, "adapter"), (2, "adapter"), (4, "frozen"), (2, "frozen")), 4),
}
_NORMING = ("qwen3", "gemma3", "olmo2", "olmo3")
# Dropout gives each adapted layer its own input, and on the CPU an integer mask.
_DROPPED = {
    ("cpu", 4): _Widths(32, 8, 0, 4),
    ("cpu", 2): _Widths(20, 4, 0, 4),
    ("cuda", 4): _Widths(17, 5, 0, 1),
    ("cuda", 2): _Widths(5, 1, 0, 1),
}

# Bytes that attention with dropout keeps for each pair of tokens and head where there is no kernel
# for it: three numbers of 32 bits, also in 16-bit precision. Measured with PyTorch 2 on the CPU.
DROPPED_ATTENTION = 12.0


def plain_bytes(plan: Plan) -> int:
    """Return the bytes per number of tensors that are not quantized."""
    return 4 if plan.precision == "fp32" else 2


def block_bytes(config: TrainingConfig, plan: Plan, model: ModelInfo, length: int) -> float:
    """Return the bytes that a block keeps per token of rows of this length.

    Raises IndexError for a model whose layers are unknown.
    """
    saved = bytes_without_adapter(config, plan, model, length, plan.trains)
    if plan.trains == "all":
        return saved
    size, widths = plain_bytes(plan), _widths(model)
    if plan.fp8_recipe is not None and (size == 2 or config.lora_dropout > 0):
        # The inputs of frozen layers, where the adapter keeps other numbers than these.
        saved += size * (2 * widths.hidden + widths.intermediate)
    if config.lora_dropout > 0 and not plan.facts.compares:
        saved += _weighted(_DROPPED["cpu" if plan.device == "cpu" else "cuda", size], widths)
    if config.adapter.use_dora:
        # The outputs of the frozen layer and of its adapter, for the gradient of the magnitude.
        saved += 2 * size * sum(outputs for _, outputs in model.layer_matrices)
    return saved + adapter_bytes(config.lora_r, model)


def adapter_bytes(rank: int, model: ModelInfo) -> float:
    """Return the bytes per token of the outputs of each adapter's first matrix in a block."""
    return 4.0 * rank * len(model.layer_matrices)


def bytes_without_adapter(
    config: TrainingConfig, plan: Plan, model: ModelInfo, length: int, trains: Trains
) -> float:
    """Return the bytes per token that a block keeps in which this trains, beside adapters' own."""
    size = plain_bytes(plan)
    widths = _widths(model)
    kept = _SAVED[size, trains]
    if not is_gated(model):
        # The squared ReLU keeps its input and its result.
        kept = kept._replace(intermediate=kept.intermediate // 2)
    saved = _weighted(kept, widths)
    if model.model_type.startswith(_NORMING):
        saved += _NORMED[size, trains] * (widths.queries + widths.keys)
    if attended := _masked_length(config, plan, length):
        # The attention mask, one number per pair of tokens; keys are expanded to all heads.
        saved += size * attended + 2 * size * (widths.queries - widths.keys)
    if config.pretraining.dropout > 0 and plan.device != "cuda":
        heads = widths.queries // (model.head_dim or widths.queries)
        saved += DROPPED_ATTENTION * heads * length
    return saved


def _masked_length(config: TrainingConfig, plan: Plan, length: int) -> int:
    """Return the number of tokens in the mask of each token; 0 without a mask."""
    rows = config.rows_per_pass
    if plan.attn_implementation == VARLEN:
        return 0
    if plan.pretraining is not None:
        # Windows are full: only layers that attend to a part of them need a mask.
        return length if min(plan.pretraining.shape.windows) < length else 0
    if plan.facts.joins_rows and config.packing:
        return 0 if config.data.packing_strategy == "wrapped" else rows * length
    if plan.facts.joins_rows and config.data.padding_free:
        return rows * length
    return length if rows > 1 else 0


def is_gated(model: ModelInfo) -> bool:
    """Return whether the MLP has a gate, as in all families but nanochat."""
    return model.model_type != "nanochat"


def _widths(model: ModelInfo) -> _Widths:
    queries, keys = model.layer_matrices[0][1], model.layer_matrices[1][1]
    return _Widths(model.hidden_size or 0, queries, keys, model.intermediate or 0)


def _weighted(bytes_per_number: _Widths, widths: _Widths) -> float:
    return float(sum(a * b for a, b in zip(bytes_per_number, widths, strict=True)))
