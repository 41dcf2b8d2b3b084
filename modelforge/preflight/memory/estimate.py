"""How much memory a run needs, part by part, worked out from the model's shape alone."""

from __future__ import annotations

from dataclasses import dataclass

from modelforge.config.optimizers import BYTES_PER_WEIGHT, OPTIMIZERS
from modelforge.config.plan.make import Plan, releases_memory
from modelforge.config.rules.weights import split_names
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.memory.activations import activations, logits, plain_bytes
from modelforge.units import GIB

# CUDA context and libraries.
OVERHEAD_GIB = 1.4
# On the CPU the process with its imports, and what malloc cannot give back: with an adapter a
# share of the activations, where the worker does not give them back at once. From the cells of
# bench/memory.py.
_PROCESS_GIB = {"all": 0.7, "adapter": 0.85}
_GIVING_GIB = {"all": 0.5, "adapter": 0.65}
_NOT_GIVEN_BACK = 0.3
# What oneDNN keeps of products in 16 bits on the CPU, 128 of them, and what batches of ever other
# lengths leave between: 0.0 to 0.25 in 11 runs of 50 batches.
PRODUCTS_GIB = 0.18


_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_WIDE = ("gate_proj", "up_proj", "down_proj")
_OF_PLAIN = len(_ATTENTION) + 2


@dataclass(frozen=True)
class MemoryPart:
    """One part of the memory of a run."""

    name: str
    gib: float


def estimate(
    config: TrainingConfig, plan: Plan, facts: ModelInfo, *, longest_tokens: int | None = None
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
    optimizer = OPTIMIZERS[plan.optim]
    parts = {
        "weights": weight_bytes(config, plan, facts),
        "adapter": trained * each if plan.trains == "adapter" else 0.0,
        "gradients": trained * each,
        "optimizer": trained * optimizer.bytes_per_weight,
        "activations": activations(config, plan, facts, length),
        "logits": logits(config, plan, facts, length),
    }
    # What an update makes for a moment comes when the activations have gone.
    made = optimizer.transient_bytes(trained, _largest(plan, facts), plan.device)
    parts["optimizer"] += max(0.0, made - parts["activations"] - parts["logits"])
    parts["overhead"] = _overhead(config, plan, parts["activations"])
    return [MemoryPart(name, size / GIB) for name, size in parts.items()]


def _largest(plan: Plan, facts: ModelInfo) -> int:
    """Return the weights of the largest tensor that learns; those of an adapter are small."""
    return (facts.vocab or 0) * (facts.hidden_size or 0) if plan.trains == "all" else 0


def _overhead(config: TrainingConfig, plan: Plan, activations: float) -> float:
    if plan.device != "cpu":
        return OVERHEAD_GIB * GIB
    products = PRODUCTS_GIB * GIB if plan.precision == "bf16" else 0.0
    if releases_memory(config, plan):
        return _GIVING_GIB[plan.trains] * GIB + products
    kept = _NOT_GIVEN_BACK * activations if plan.trains == "adapter" else 0.0
    return _PROCESS_GIB[plan.trains] * GIB + products + kept


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


def adapter_weights(rank: int, facts: ModelInfo) -> int:
    """Return the weights of a LoRA on every linear layer: r x (in + out) each, head left out."""
    each = sum(inputs + outputs for inputs, outputs in facts.layer_matrices)
    return rank * each * (facts.layers or 0)


def trained_weights(config: TrainingConfig, plan: Plan, facts: ModelInfo) -> int:
    """Return how many weights learn: those of the adapter, or all."""
    if plan.trains == "all":
        return facts.parameters or 0
    said = config.adapter
    width = facts.hidden_size or 0
    if said.target_modules.strip() == "all-linear":
        lora = adapter_weights(config.lora_r, facts)
    else:
        chosen = _chosen(split_names(said.target_modules), facts)
        lora = sum(config.lora_r * sum(each) for each in chosen) * (facts.layers or 0)
    # What is trained whole beside it is copied; its names at the ends of a model are these.
    whole = {"lm_head", "embed_tokens"} & set(split_names(said.modules_to_save))
    return lora + len(whole) * (facts.vocab or 0) * width


def _chosen(names: list[str], facts: ModelInfo) -> list[tuple[int, int]]:
    """Return the matrices of one block by the names most families give them; else all."""
    matrices = facts.layer_matrices
    wide = ("up_proj", "down_proj") if len(matrices) == _OF_PLAIN else _WIDE
    known = zip((*_ATTENTION, *wide), matrices, strict=False)
    return [each for name, each in known if name in names] or matrices


def weight_bytes(config: TrainingConfig, plan: Plan, facts: ModelInfo) -> float:
    """Return the bytes of the model that is trained or lies frozen below its adapter.

    A model that is trained whole is kept in 32 bits, and where the start model has to be asked
    too, that lies beside it. So does one that judges answers, taken to be as large.
    bitsandbytes quantizes the linear layers and leaves embeddings and head as they are. 4-bit is
    half a byte and a 32-bit scale for every 64 weights; nested, the scales have 8 bits and a
    32-bit scale of their own for every 256. 8-bit is a byte and a scale for every row.
    """
    plain = plain_bytes(plan)
    models = 2 if plan.method == "rlhf" and config.trainer.reward == "model" else 1
    if plan.trains == "all":
        asked_before = plan.method != "rlhf" and config.trainer.precompute_ref_log_probs
        compares = plan.method in ("dpo", "kto", "rlhf") and not asked_before
        return (facts.parameters or 0) * (4.0 * models + (plain if compares else 0.0))
    linear = float(plain)
    scheme = facts.quantization if facts.quantization in {"4-bit", "8-bit"} else plan.quantization
    if scheme == "4-bit":
        linear = 0.5 + ((1 + 4 / 256) / 64 if config.use_nested_quant else 4 / 64)
    elif scheme in BYTES_PER_WEIGHT:
        linear = BYTES_PER_WEIGHT[scheme]
    left = config.quantization.skip_first_layers + config.quantization.skip_last_layers
    share = min(1.0, left / (facts.layers or 1))
    stored = facts.linear_weights * ((1 - share) * linear + share * plain)
    return models * (stored + facts.embedding_weights * plain)
