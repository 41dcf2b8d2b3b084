"""Activations and logits of a training step, from the dimensions of the model."""

from __future__ import annotations

from typing import NamedTuple

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo


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
}
# Model families that normalize queries and keys save these bytes more of both.
_NORMED = {(4, "all"): 8, (2, "all"): 6, (4, "adapter"): 4, (2, "adapter"): 4}
_NORMING = ("qwen3", "gemma3", "olmo2", "olmo3")
# Dropout gives each adapted layer its own input, and on the CPU an integer mask.
_DROPPED = {
    ("cpu", 4): _Widths(32, 8, 0, 4),
    ("cpu", 2): _Widths(20, 4, 0, 4),
    ("cuda", 4): _Widths(17, 5, 0, 1),
    ("cuda", 2): _Widths(5, 1, 0, 1),
}


def plain_bytes(plan: Plan) -> int:
    """Return the bytes per number of tensors that are not quantized."""
    return 4 if plan.precision == "fp32" else 2


def activations(config: TrainingConfig, plan: Plan, model: ModelInfo, length: int) -> float:
    """Return the bytes of activations: the larger of training and evaluation.

    Training keeps every block, or with gradient checkpointing the input of every block and one
    block in full; the gradients of the current block are added. Evaluation keeps one block.
    """
    tokens = _tokens(config, plan, length)
    size = plain_bytes(plan)
    block = block_bytes(config, plan, model, length)
    layers, hidden = model.layers or 0, model.hidden_size or 0
    gradients = (2 * hidden + 3 * (model.intermediate or 0)) * size
    saved = layers * hidden * size + block if config.gradient_checkpointing else layers * block
    total = tokens * (saved + gradients) + _full_fine_tuning(plan, model)
    if config.eval_split > 0:
        total = max(total, config.per_device_eval_batch_size * length * block)
    return total + _dequantized(plan, model)


def logits(config: TrainingConfig, plan: Plan, model: ModelInfo, length: int) -> float:
    """Return the bytes of the logits: of one chunk of tokens, or of all for comparing losses.

    A chunk is kept in its own dtype and in four 32-bit copies; all logits in four 32-bit copies:
    logits, log-probabilities, and the gradients of both (traced for dpo, kto, orpo and rlhf).
    """
    vocab = model.vocab or 0
    if plan.facts.compares:
        return 16.0 * _tokens(config, plan, length) * vocab
    rows = max(config.per_device_train_batch_size, config.per_device_eval_batch_size)
    return float(min(plan.loss_piece, rows * length) * vocab * (16 + plain_bytes(plan)))


def _tokens(config: TrainingConfig, plan: Plan, length: int) -> int:
    """Return the tokens of a micro-batch of rows of this length."""
    if plan.facts.generates:
        length += config.trainer.max_completion_length
    return plan.facts.sequences(config.per_device_train_batch_size) * length


def block_bytes(config: TrainingConfig, plan: Plan, model: ModelInfo, length: int) -> float:
    """Return the bytes that a block keeps per token of rows of this length.

    Raises IndexError for a model whose layers are unknown.
    """
    size = plain_bytes(plan)
    widths = _widths(model)
    saved = _weighted(_SAVED[size, plan.trains], widths)
    if model.model_type.startswith(_NORMING):
        saved += _NORMED[size, plan.trains] * (widths.queries + widths.keys)
    if attended := _masked_length(config, plan, length):
        # The attention mask, one number per pair of tokens; keys are expanded to all heads.
        saved += size * attended + 2 * size * (widths.queries - widths.keys)
    if plan.trains == "all":
        return saved
    if config.lora_dropout > 0 and not plan.facts.compares:
        saved += _weighted(_DROPPED["cpu" if plan.device == "cpu" else "cuda", size], widths)
    # The output of each adapter's first matrix.
    return saved + 4 * config.lora_r * len(model.layer_matrices)


def _masked_length(config: TrainingConfig, plan: Plan, length: int) -> int:
    """Return the number of tokens in the mask of each token; 0 without a mask."""
    rows = config.per_device_train_batch_size
    if plan.facts.joins_rows and config.packing:
        return 0 if config.data.packing_strategy == "wrapped" else rows * length
    if plan.facts.joins_rows and config.data.padding_free:
        return rows * length
    return length if rows > 1 else 0


def _widths(model: ModelInfo) -> _Widths:
    queries, keys = model.layer_matrices[0][1], model.layer_matrices[1][1]
    return _Widths(model.hidden_size or 0, queries, keys, model.intermediate or 0)


def _weighted(bytes_per_number: _Widths, widths: _Widths) -> float:
    return float(sum(a * b for a, b in zip(bytes_per_number, widths, strict=True)))


def _full_fine_tuning(plan: Plan, model: ModelInfo) -> float:
    """Return the extra bytes of training all weights: the head's gradient, twice.

    In 16-bit precision the weights, which are stored in 32 bits, are copied.
    """
    if plan.trains != "all":
        return 0.0
    head = (model.vocab or 0) * (model.hidden_size or 0)
    if plain_bytes(plan) == 4:
        return 8.0 * head
    return 10.0 * head + 2.0 * (model.parameters or 0)


def _dequantized(plan: Plan, model: ModelInfo) -> float:
    # Quantized layers are dequantized for a multiplication, one at a time.
    if plan.quantization == "none":
        return 0.0
    return max(inputs * outputs for inputs, outputs in model.layer_matrices) * plain_bytes(plan)
