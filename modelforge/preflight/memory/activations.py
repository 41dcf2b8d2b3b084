"""What a model remembers of its rows while it learns, worked out from its shape."""

from __future__ import annotations

from typing import NamedTuple

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo


class _Kept(NamedTuple):
    """Bytes that a block keeps of a token, for each of its widths."""

    hidden: int
    queries: int
    keys: int
    wide: int


# What autograd saves in one block, by the bytes of a number and what learns. Read off traces of
# the training code (modelforge/train/memory_trace/trace.py): 8 shapes of Llama and 8 of Qwen3 with
# Transformers 5.17 and PEFT 0.21: these whole numbers give all 16 to 1 %.
_SAVED = {
    (4, "all"): _Kept(24, 8, 8, 16),
    (2, "all"): _Kept(26, 4, 4, 8),
    (4, "adapter"): _Kept(16, 8, 8, 16),
    (2, "adapter"): _Kept(18, 6, 4, 8),
}
# A family that norms queries and keys too keeps so much more of both.
_NORMED = {(4, "all"): 8, (2, "all"): 6, (4, "adapter"): 4, (2, "adapter"): 4}
_NORMING = ("qwen3", "gemma3", "olmo2", "olmo3")
# Dropout gives each adapted layer an input of its own, and on the CPU a mask of whole numbers.
_DROPPED = {
    ("cpu", 4): _Kept(32, 8, 0, 4),
    ("cpu", 2): _Kept(20, 4, 0, 4),
    ("cuda", 4): _Kept(17, 5, 0, 1),
    ("cuda", 2): _Kept(5, 1, 0, 1),
}
# These compare answers, without dropout and with all their logits.
_COMPARING = ("dpo", "kto", "orpo", "rlhf")


def plain_bytes(plan: Plan) -> int:
    """Return the bytes of a number that is not stored in fewer bits."""
    return 4 if plan.precision == "fp32" else 2


def activations(config: TrainingConfig, plan: Plan, facts: ModelInfo, length: int) -> float:
    """Return the larger of training and evaluation, in bytes.

    Training remembers every block, or with checkpointing the input of every block and one block
    in full; the gradients of the block at work come on top. Evaluation holds one block at a time.
    """
    train = _tokens(config, plan, length)
    size = plain_bytes(plan)
    block = block_bytes(config, plan, facts, length)
    layers, hidden = facts.layers or 0, facts.hidden_size or 0
    gradients = (2 * hidden + 3 * (facts.intermediate or 0)) * size
    remembered = layers * hidden * size + block if config.gradient_checkpointing else layers * block
    held = train * (remembered + gradients) + _whole(plan, facts)
    if config.eval_split > 0:
        held = max(held, config.per_device_eval_batch_size * length * block)
    return held + _unpacked(plan, facts)


def logits(config: TrainingConfig, plan: Plan, facts: ModelInfo, length: int) -> float:
    """Return the bytes of the logits: of one piece of tokens, or of all where answers are compared.

    A piece is held as it comes and in four copies of 32 bits, the whole in four alone: as they
    are, as likelihoods, and the gradients of both (traced, for dpo, kto, orpo and rlhf).
    """
    if plan.method in _COMPARING:
        return 16.0 * _tokens(config, plan, length) * (facts.vocab or 0)
    rows = max(config.per_device_train_batch_size, config.per_device_eval_batch_size)
    each = (facts.vocab or 0) * (16 + plain_bytes(plan))
    return float(min(plan.loss_piece, rows * length) * each)


def _tokens(config: TrainingConfig, plan: Plan, length: int) -> int:
    """Return how many tokens go through the model at once, of rows of a length."""
    rows = config.per_device_train_batch_size
    if plan.method in ("dpo", "orpo"):
        rows *= 2  # the better and the worse answer go through together
    if plan.method == "kto":
        rows = max(2, rows)
    if plan.method == "rlhf":
        length += config.trainer.max_completion_length
    return rows * length


def block_bytes(config: TrainingConfig, plan: Plan, facts: ModelInfo, length: int) -> float:
    """Return the bytes that one block keeps for each token of rows of a length.

    Raises IndexError for a model of which no layers are known.
    """
    size = plain_bytes(plan)
    widths = _widths(facts)
    held = _together(_SAVED[size, plan.trains], widths)
    if facts.model_type.startswith(_NORMING):
        held += _NORMED[size, plan.trains] * (widths.queries + widths.keys)
    if seen := _seen(config, plan, length):
        # A mask of who looks at whom, a number for each pair, and no keys shared by queries.
        held += size * seen + 2 * size * (widths.queries - widths.keys)
    if plan.trains == "all":
        return held
    if config.lora_dropout > 0 and plan.method not in _COMPARING:
        held += _together(_DROPPED["cpu" if plan.device == "cpu" else "cuda", size], widths)
    # What goes from the one half of each adapter to the other.
    return held + 4 * config.lora_r * len(facts.layer_matrices)


def _seen(config: TrainingConfig, plan: Plan, length: int) -> int:
    """Return how many tokens each token is held against by a mask; none where there is no mask."""
    rows = config.per_device_train_batch_size
    packs = plan.method == "sft" and config.packing
    if packs:
        return 0 if config.data.packing_strategy == "wrapped" else rows * length
    if plan.method == "sft" and config.data.padding_free:
        return rows * length
    return length if rows > 1 else 0


def _widths(facts: ModelInfo) -> _Kept:
    queries, keys = facts.layer_matrices[0][1], facts.layer_matrices[1][1]
    return _Kept(facts.hidden_size or 0, queries, keys, facts.intermediate or 0)


def _together(each: _Kept, widths: _Kept) -> float:
    return float(sum(a * b for a, b in zip(each, widths, strict=True)))


def _whole(plan: Plan, facts: ModelInfo) -> float:
    """Return what training every weight holds besides: what the head has to learn, twice.

    In 16 bits the weights, which are kept in 32, are copied to work with.
    """
    if plan.trains != "all":
        return 0.0
    head = (facts.vocab or 0) * (facts.hidden_size or 0)
    if plain_bytes(plan) == 4:
        return 8.0 * head
    return 10.0 * head + 2.0 * (facts.parameters or 0)


def _unpacked(plan: Plan, facts: ModelInfo) -> float:
    # A quantized layer is unpacked to multiply with it, one layer at a time.
    if plan.quantization == "none":
        return 0.0
    return max(inputs * outputs for inputs, outputs in facts.layer_matrices) * plain_bytes(plan)
