"""How much memory a run needs, part by part, worked out from the model's shape alone."""

from __future__ import annotations

from dataclasses import dataclass

from modelforge.config.choices import OPTIMIZERS, STORED_BYTES
from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig
from modelforge.models.shape import ModelFacts

GIB = 2**30
# CUDA context and libraries; on the CPU the process, and what its allocator cannot give back.
# Measured: the starter in fp32, 4 x 256 tokens, peaks at 4.35 GiB, with checkpointing at 2.39;
# the sum here is 4.30 and 2.37.
OVERHEAD_GIB = 1.4


@dataclass(frozen=True)
class MemoryPart:
    """One part of the memory of a run."""

    name: str
    gib: float


def estimate(
    config: TrainingConfig, plan: Plan, facts: ModelFacts, *, longest_tokens: int | None = None
) -> list[MemoryPart]:
    """Return about what each part needs; empty when the model's shape is unknown.

    `longest_tokens` is the longest row where it is known; without it every row is taken to be
    as long as the plan allows.
    """
    if not facts.parameters or not facts.layers or not facts.layer_matrices:
        return []
    length = longest_row(config, plan, longest_tokens)
    trained = trained_weights(config, plan, facts)
    each = 2.0 if plan.adapter_dtype == "bfloat16" and plan.trains == "adapter" else 4.0
    parts = {
        "weights": weight_bytes(config, plan, facts),
        "adapter": trained * each if plan.trains == "adapter" else 0.0,
        "gradients": trained * each,
        "optimizer": trained * OPTIMIZERS[plan.optim].bytes,
        "activations": _activations(config, plan, facts, length),
        "logits": _logits(config, plan, facts, length),
        "overhead": OVERHEAD_GIB * GIB,
    }
    return [MemoryPart(name, size / GIB) for name, size in parts.items()]


def longest_row(config: TrainingConfig, plan: Plan, longest_tokens: int | None) -> int:
    """Return how long rows are trained on at most: as the plan allows, or as they come."""
    length = plan.max_length
    if longest_tokens and not config.packing:
        length = min(length, longest_tokens)
    return length


def total_gib(parts: list[MemoryPart]) -> float | None:
    """Return the sum of the parts, or None when nothing is known."""
    return sum(part.gib for part in parts) if parts else None


def part_gib(parts: list[MemoryPart], *names: str) -> float:
    """Return the sum of the named parts."""
    return sum(part.gib for part in parts if part.name in names)


def adapter_weights(rank: int, facts: ModelFacts) -> int:
    """Return the weights of a LoRA on every linear layer: r x (in + out) each, head left out."""
    each = sum(inputs + outputs for inputs, outputs in facts.layer_matrices)
    return rank * each * (facts.layers or 0)


def trained_weights(config: TrainingConfig, plan: Plan, facts: ModelFacts) -> int:
    """Return how many weights learn: those of the adapter, or all."""
    if plan.trains == "all":
        return facts.parameters or 0
    return adapter_weights(config.lora_r, facts)


def weight_bytes(config: TrainingConfig, plan: Plan, facts: ModelFacts) -> float:
    """Return the bytes of the model that is trained or lies frozen below its adapter.

    A model that is trained whole is kept in 32 bits, and where the start model has to be asked
    too, that lies beside it.
    bitsandbytes quantizes the linear layers and leaves embeddings and head as they are. 4-bit is
    half a byte and a 32-bit scale for every 64 weights; nested, the scales have 8 bits and a
    32-bit scale of their own for every 256. 8-bit is a byte and a scale for every row.
    """
    plain = _plain_bytes(plan)
    if plan.trains == "all":
        compares = plan.method in ("dpo", "kto", "rlhf")
        return (facts.parameters or 0) * (4.0 + (plain if compares else 0.0))
    linear = plain
    scheme = facts.quantization if facts.quantization in {"4-bit", "8-bit"} else plan.quantization
    if scheme == "4-bit":
        linear = 0.5 + ((1 + 4 / 256) / 64 if config.use_nested_quant else 4 / 64)
    elif scheme in STORED_BYTES:
        linear = STORED_BYTES[scheme]
    left = config.quantization.skip_first_layers + config.quantization.skip_last_layers
    share = min(1.0, left / (facts.layers or 1))
    stored = facts.linear_weights * ((1 - share) * linear + share * plain)
    return stored + facts.embedding_weights * plain


def _plain_bytes(plan: Plan) -> float:
    return 4.0 if plan.precision == "fp32" else 2.0


def _activations(config: TrainingConfig, plan: Plan, facts: ModelFacts, length: int) -> float:
    """Return the larger of training and evaluation.

    Training remembers every block, or with checkpointing the input of every block and one block
    in full; the gradients of the block at work come on top. Evaluation holds one block at a time.
    """
    train = config.per_device_train_batch_size * length
    if plan.method in ("dpo", "orpo"):
        train *= 2  # the better and the worse answer go through together
    size = _plain_bytes(plan)
    block = _block_bytes(config, facts, size)
    layers, hidden = facts.layers or 0, facts.hidden_size or 0
    gradients = (2 * hidden + 3 * (facts.intermediate or 0)) * size
    remembered = layers * hidden * size + block if config.gradient_checkpointing else layers * block
    held = train * (remembered + gradients)
    if config.eval_split > 0:
        held = max(held, config.per_device_eval_batch_size * length * block)
    return held + _unpacked(plan, facts)


def _block_bytes(config: TrainingConfig, facts: ModelFacts, size: float) -> float:
    """Return the bytes that one block keeps for each token.

    Six of the hidden size (residuals, norms, what enters the projections), two of queries, keys
    and values each, four of the feed-forward size: with 16 bits 22 KB at SmolLM2-135M, 49 at
    Qwen3-0.6B and 168 at Qwen3-8B, where limits.md section 3 derives 22, 51 and 164. The norms
    work in 32 bits: 10 bytes of the hidden size more in a 16-bit run. With dropout each adapted
    layer keeps a copy of its input and a mask. Counted in Transformers 5.17 and PEFT 0.21 by
    what autograd saves: 41 to 149 KB in four shapes, where this says from 4% less to 10% more.
    """
    queries, keys = facts.layer_matrices[0][1], facts.layer_matrices[1][1]
    hidden, wide = facts.hidden_size or 0, facts.intermediate or 0
    held = (6 * hidden + 2 * queries + 2 * keys + 4 * wide) * size
    if size < 4:
        held += 10 * hidden
    if config.lora_dropout > 0:
        held += sum(inputs for inputs, _ in facts.layer_matrices) * (size + 1.6)
    return held


def _unpacked(plan: Plan, facts: ModelFacts) -> float:
    # A quantized layer is unpacked to multiply with it, one layer at a time.
    if plan.quantization == "none":
        return 0.0
    return max(inputs * outputs for inputs, outputs in facts.layer_matrices) * _plain_bytes(plan)


def _logits(config: TrainingConfig, plan: Plan, facts: ModelFacts, length: int) -> float:
    """Return the logits of a piece of tokens as they come, and four copies in 32 bits.

    TRL computes loss and entropy piece by piece, so no more is ever held.
    """
    rows = max(config.per_device_train_batch_size, config.per_device_eval_batch_size)
    return min(plan.loss_piece, rows * length) * (facts.vocab or 0) * (16 + _plain_bytes(plan))
