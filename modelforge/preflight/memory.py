"""How much memory a run needs, part by part, worked out from the model's shape alone."""

from __future__ import annotations

from dataclasses import dataclass

from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig
from modelforge.shape import ModelFacts

GIB = 2**30
CHUNK = 256
ADAM_BYTES = {"paged_adamw_32bit": 8.0, "adamw_torch": 8.0, "adamw_8bit": 2.0, "sgd": 0.0}
OVERHEAD_GIB = {"cuda": 1.4, "mps": 1.4, "cpu": 0.9}


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
    length = plan.max_length
    if longest_tokens and not config.packing:
        length = min(length, longest_tokens)
    adapter = adapter_weights(config.lora_r, facts)
    parts = {
        "weights": weight_bytes(config, plan, facts),
        "adapter": adapter * 4.0,
        "gradients": adapter * 4.0,
        "optimizer": adapter * ADAM_BYTES[plan.optim],
        "activations": _activations(config, plan, facts, length),
        "logits": _logits(config, facts, length),
        "overhead": OVERHEAD_GIB[plan.device] * GIB,
    }
    return [MemoryPart(name, size / GIB) for name, size in parts.items()]


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


def weight_bytes(config: TrainingConfig, plan: Plan, facts: ModelFacts) -> float:
    """Return the bytes of the frozen model.

    bitsandbytes quantizes the linear layers and leaves embeddings and head as they are. 4-bit is
    half a byte and a 32-bit scale for every 64 weights; nested, the scales have 8 bits and a
    32-bit scale of their own for every 256. 8-bit is a byte and a scale for every row.
    """
    plain = _plain_bytes(plan)
    linear = plain
    scheme = facts.quantization if facts.quantization in {"4-bit", "8-bit"} else plan.quantization
    if scheme == "4-bit":
        linear = 0.5 + ((1 + 4 / 256) / 64 if config.use_nested_quant else 4 / 64)
    elif scheme == "8-bit":
        linear = 1.01
    return facts.linear_weights * linear + facts.embedding_weights * plain


def _plain_bytes(plan: Plan) -> float:
    return 4.0 if plan.precision == "fp32" else 2.0


def _activations(config: TrainingConfig, plan: Plan, facts: ModelFacts, length: int) -> float:
    """Return the larger of training and evaluation.

    Training remembers every block, or with checkpointing the input of every block and one block
    in full, once more for its gradients. Evaluation holds one block at a time.
    """
    train = config.per_device_train_batch_size * length
    size = _plain_bytes(plan)
    block = _block_numbers(facts) * size + _dropout_bytes(config, facts, size)
    layers, hidden = facts.layers or 0, facts.hidden_size or 0
    if config.gradient_checkpointing:
        held = train * (layers * hidden * size + 1.5 * block)
    else:
        held = train * (layers * block + 0.5 * block)
    if config.eval_split > 0:
        held = max(held, config.per_device_eval_batch_size * length * block)
    return held + _unpacked(plan, facts)


def _block_numbers(facts: ModelFacts) -> float:
    """Return the numbers that one block keeps for each token.

    Six of the hidden size (residuals, norms, what enters the projections), two of queries, keys
    and values each, four of the feed-forward size: with 16 bits 22 KB a token at SmolLM2-135M,
    50 at Qwen3-0.6B, 168 at Qwen3-8B, where limits.md section 3 derives 22, 51 and 164.
    """
    queries, keys = facts.layer_matrices[0][1], facts.layer_matrices[1][1]
    return 6 * (facts.hidden_size or 0) + 2 * queries + 2 * keys + 4 * (facts.intermediate or 0)


def _dropout_bytes(config: TrainingConfig, facts: ModelFacts, size: float) -> float:
    # Each adapted layer drops from its own copy of its input, and keeps copy and mask.
    if config.lora_dropout == 0:
        return 0.0
    return sum(inputs for inputs, _ in facts.layer_matrices) * (size + 1)


def _unpacked(plan: Plan, facts: ModelFacts) -> float:
    # A quantized layer is unpacked to multiply with it, one layer at a time.
    if plan.quantization == "none":
        return 0.0
    return max(inputs * outputs for inputs, outputs in facts.layer_matrices) * _plain_bytes(plan)


def _logits(config: TrainingConfig, facts: ModelFacts, length: int) -> float:
    """Return logits, their logarithms and their gradients in 32 bits.

    TRL computes the loss in chunks of 256 tokens, so no more than that is ever held.
    """
    rows = max(config.per_device_train_batch_size, config.per_device_eval_batch_size)
    return min(CHUNK, rows * length) * (facts.vocab or 0) * 4.0 * 3
