"""The memory of a run, part by part, estimated from the dimensions of the model."""

from __future__ import annotations

from dataclasses import dataclass

from modelforge.config.optimizers import BYTES_PER_WEIGHT, OPTIMIZERS, TrainedSizes
from modelforge.config.plan.make import Plan, releases_memory
from modelforge.config.rules.weights import split_names
from modelforge.config.schema.config import TrainingConfig
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.memory.block import block_bytes, is_gated, plain_bytes
from modelforge.preflight.memory.ranks import divided, shares
from modelforge.units import GIB

# CUDA context and libraries.
OVERHEAD_GIB = 1.4
# On the CPU: the process with its imports, and memory that malloc cannot return; with an adapter a
# share of the activations unless the worker returns memory at once. From bench/memory.py.
_PROCESS_GIB = {"all": 0.7, "adapter": 0.85}
_PROCESS_RELEASING_GIB = {"all": 0.5, "adapter": 0.65}
_RETAINED_SHARE = 0.3
# What the imports of a PyTorch built for CUDA take beyond the build for CPUs, also without a GPU.
CUDA_BUILD_GIB = 0.15
# Buffers that oneDNN keeps for 128 shapes of 16-bit products on the CPU, and fragmentation by
# batches of varying lengths: 0.0 to 0.25 GiB in 11 runs of 50 batches.
PRODUCTS_GIB = 0.18

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
# ModelInfo.layer_matrices lists shapes without names. These are the names that most families use,
# in the same order: 7 matrices are a gated MLP, 6 a plain one, 4 attention alone (experts).
_MODULE_NAMES = {
    4: _ATTENTION,
    6: (*_ATTENTION, "up_proj", "down_proj"),
    7: (*_ATTENTION, "gate_proj", "up_proj", "down_proj"),
}


@dataclass(frozen=True)
class MemoryPart:
    """One part of the memory of a run."""

    name: str
    gib: float


def estimate_memory(
    config: TrainingConfig,
    plan: Plan,
    model: ModelInfo,
    length: int,
    *,
    is_cuda_build: bool = False,
) -> list[MemoryPart]:
    """Return the estimated parts; empty when the dimensions of the model are unknown.

    `length` is that of the longest row in tokens; `is_cuda_build` whether the installed PyTorch is
    built for CUDA.
    """
    if not model.parameters or not model.layers or not model.layer_matrices:
        return []
    sizes = trained_sizes(config, plan, model)
    trained = sizes.total
    size = float(plan.trained_bytes)
    optimizer = OPTIMIZERS[plan.optim]
    parts = {
        "weights": weight_bytes(config, plan, model),
        "adapter": trained * size if plan.trains == "adapter" else 0.0,
        # With differential privacy the sum of the clipped gradients is beside those of a row.
        "gradients": trained * size * (2 if config.privacy.enabled else 1),
        "optimizer": optimizer.state_bytes(sizes, plan.trained_bytes),
        "activations": activations(config, plan, model, length),
        "logits": logits(config, plan, model, length),
    }
    # The optimizer's temporary tensors are allocated after the activations have been freed.
    parts = divided(parts, plan, model)
    transient = optimizer.transient_bytes(sizes, plan.device) / shares(plan, "optimizer")
    parts["optimizer"] += max(0.0, transient - parts["activations"] - parts["logits"])
    parts["overhead"] = overhead(config, plan, parts["activations"], is_cuda_build=is_cuda_build)
    return [MemoryPart(name, value / GIB) for name, value in parts.items()]


def overhead(
    config: TrainingConfig, plan: Plan, activations: float, *, is_cuda_build: bool
) -> float:
    """Return the bytes of the process beside what is computed, with these bytes of activations."""
    if plan.device != "cpu":
        return OVERHEAD_GIB * GIB
    products = PRODUCTS_GIB * GIB if plan.precision == "bf16" else 0.0
    products += CUDA_BUILD_GIB * GIB if is_cuda_build else 0.0
    if releases_memory(config, plan):
        return _PROCESS_RELEASING_GIB[plan.trains] * GIB + products
    retained = _RETAINED_SHARE * activations if plan.trains == "adapter" else 0.0
    return _PROCESS_GIB[plan.trains] * GIB + products + retained


def total_gib(parts: list[MemoryPart]) -> float | None:
    """Return the sum of the parts; None without parts."""
    return sum(part.gib for part in parts) if parts else None


def part_gib(parts: list[MemoryPart], *names: str) -> float:
    """Return the sum of the named parts."""
    return sum(part.gib for part in parts if part.name in names)


def adapter_weights(rank: int, model: ModelInfo) -> int:
    """Return the weights of LoRA on all linear layers, without the head: r x (in + out) each."""
    widths = sum(inputs + outputs for inputs, outputs in model.layer_matrices)
    return rank * widths * (model.layers or 0)


def trained_weights(config: TrainingConfig, plan: Plan, model: ModelInfo) -> int:
    """Return the number of trained weights: of the adapter, or all."""
    return trained_sizes(config, plan, model).total


def trained_sizes(config: TrainingConfig, plan: Plan, model: ModelInfo) -> TrainedSizes:
    """Return the trained weights in matrices and others: of the adapter, or all.

    The tensors of an adapter are too small to be counted as the largest.
    """
    table = (model.vocab or 0) * (model.hidden_size or 0)
    if plan.trains == "all":
        frozen = table if config.pretraining.freeze_embeddings else 0
        others = min(model.embedding_weights, model.parameters or 0) - frozen
        largest = max((rows * columns for rows, columns in model.layer_matrices), default=0)
        inner = (model.parameters or 0) - others - frozen
        return TrainedSizes(inner, others, largest, table)
    adapter = config.adapter
    if adapter.target_modules.strip() == "all-linear":
        lora = adapter_weights(config.lora_r, model)
    else:
        matrices = _target_matrices(split_names(adapter.target_modules), model)
        lora = sum(config.lora_r * sum(shape) for shape in matrices) * (model.layers or 0)
    # Fully trained modules are copied; only embeddings and head are large enough to count.
    copied = {"lm_head", "embed_tokens"} & set(split_names(adapter.modules_to_save))
    return TrainedSizes(lora, len(copied) * table)


def _target_matrices(targets: list[str], model: ModelInfo) -> list[tuple[int, int]]:
    """Return the shapes of the targeted layers of a block; of all for unfamiliar names."""
    matrices = model.layer_matrices
    names = _MODULE_NAMES[len(matrices)]
    shapes = [shape for name, shape in zip(names, matrices, strict=True) if name in targets]
    return shapes or matrices


def weight_bytes(config: TrainingConfig, plan: Plan, model: ModelInfo) -> float:
    """Return the bytes of the weights of the model, of a reference model and of a reward model.

    The reward model is taken to be as large as the model. bitsandbytes quantizes the linear layers
    only. 4-bit is half a byte and a 32-bit scale per 64 weights; nested, the scales have 8 bits and
    a 32-bit scale per 256 of them. 8-bit is a byte and a scale per row.
    """
    plain = 4 if plan.weights_dtype == "float32" else 2
    models = 2 if plan.facts.keeps_reward_model(config.trainer) else 1
    if plan.trains == "all":
        has_reference = plan.facts.keeps_reference(config.trainer, plan.trains)
        reference = plain_bytes(plan) if has_reference else 0.0
        return (model.parameters or 0) * (float(plain) * models + reference)
    bits = quantized_bits(config, plan, model)
    linear = float(plain) if bits is None else bits / 8
    skipped = config.quantization.skip_first_layers + config.quantization.skip_last_layers
    share = min(1.0, skipped / (model.layers or 1))
    frozen = model.linear_weights * ((1 - share) * linear + share * plain)
    return models * (frozen + model.embedding_weights * plain)


def quantized_bits(config: TrainingConfig, plan: Plan, model: ModelInfo) -> float | None:
    """Return the bits of a quantized weight with its share of the scales; None without them."""
    if plan.trains == "all" or config.quantization.four_over_six:
        return None
    stored = model.quantization if model.quantization in {"4-bit", "8-bit"} else plan.quantization
    if stored == "4-bit":
        return 8 * (0.5 + ((1 + 4 / 256) / 64 if config.use_nested_quant else 4 / 64))
    return 8 * BYTES_PER_WEIGHT[stored] if stored in BYTES_PER_WEIGHT else None


def mean_bits(config: TrainingConfig, plan: Plan, model: ModelInfo) -> float | None:
    """Return the mean bits of all weights of the base model, with embeddings and skipped layers."""
    if not model.parameters or not model.hidden_size:
        return None
    if plan.trains == "all":
        return 32.0 if plan.weights_dtype == "float32" else 16.0
    models = 2 if plan.facts.keeps_reward_model(config.trainer) else 1
    return 8 * weight_bytes(config, plan, model) / (models * model.parameters)


def activations(
    config: TrainingConfig,
    plan: Plan,
    model: ModelInfo,
    length: int,
    block: float | None = None,
) -> float:
    """Return the bytes of activations: the larger of training and evaluation.

    Training keeps every block, or with gradient checkpointing the input of every recomputed block
    and one block in full; offloaded activations are not kept. The gradients of the current block
    are added. Evaluation keeps one block. `block` is the mean of the bytes that a block keeps per
    token; None where all blocks train alike.
    """
    tokens = _tokens(config, plan, length)
    size = plain_bytes(plan)
    if block is None:
        block = block_bytes(config, plan, model, length)
    inner = (3 if is_gated(model) else 2) * (model.intermediate or 0)
    gradients = (2 * (model.hidden_size or 0) + inner) * size
    offloaded = offloaded_bytes(config, plan, model, length)
    saved = _saved_bytes(config, plan, model, block) - offloaded
    total = tokens * (saved + gradients) + _full_fine_tuning(plan, model)
    if config.evaluates:
        total = max(total, config.per_device_eval_batch_size * length * block)
    return total + _dequantized(plan, model)


def recomputed_layers(config: TrainingConfig, model: ModelInfo) -> int:
    """Return how many layers are recomputed in the backward pass."""
    layers = model.layers or 0
    return -(-layers // config.memory.checkpoint_every_n_layers) * config.gradient_checkpointing


def _saved_bytes(config: TrainingConfig, plan: Plan, model: ModelInfo, block: float) -> float:
    """Return the bytes per token that are saved for the backward pass, on the GPU or offloaded."""
    layers, recomputed = model.layers or 0, recomputed_layers(config, model)
    inputs = recomputed * (model.hidden_size or 0) * plain_bytes(plan)
    return inputs + (layers - recomputed) * block + (block if recomputed else 0.0)


def offloaded_bytes(config: TrainingConfig, plan: Plan, model: ModelInfo, length: int) -> float:
    """Return the bytes per token that wait in the memory of the host.

    These are the inputs of the recomputed blocks but one, or without recomputation all blocks but
    two: one is computed while the one before is still being copied.
    """
    if not plan.activation_offload:
        return 0.0
    recomputed = recomputed_layers(config, model)
    if recomputed:
        return float((recomputed - 1) * (model.hidden_size or 0) * plain_bytes(plan))
    return max(0, (model.layers or 0) - 2) * block_bytes(config, plan, model, length)


def host_gib(config: TrainingConfig, plan: Plan, model: ModelInfo, length: int) -> float:
    """Return the memory of the computer, in GiB, that offloaded activations take."""
    per_token = offloaded_bytes(config, plan, model, length)
    return _tokens(config, plan, length) * per_token / GIB


def logits(config: TrainingConfig, plan: Plan, model: ModelInfo, length: int) -> float:
    """Return the bytes of the logits: of one chunk of tokens, or of all for comparing losses.

    A chunk is kept in its own dtype and in four 32-bit copies; all logits in four 32-bit copies:
    logits, log-probabilities, and the gradients of both (traced for dpo, kto, orpo and rlhf).
    """
    vocab = model.vocab or 0
    if plan.pretraining is not None:
        return _whole_logits(config, plan, model)
    if plan.facts.compares:
        return 16.0 * _tokens(config, plan, length) * vocab
    rows = max(config.rows_per_pass, config.per_device_eval_batch_size)
    return float(min(plan.loss_piece, rows * length) * vocab * (16 + plain_bytes(plan)))


def _whole_logits(config: TrainingConfig, plan: Plan, model: ModelInfo) -> float:
    """Return the bytes of all logits of a micro-batch of windows.

    They are kept in three 32-bit copies, beside those of 16 bits; the soft cap of nanochat keeps
    one more of 32 bits, or two of 16. An evaluation keeps two 32-bit copies.
    """
    size, vocab = plain_bytes(plan), model.vocab or 0
    per_number = 12.0 + (size if size == 2 else 0) + (0 if is_gated(model) else 4)
    trained = per_number * config.rows_per_pass
    evaluated = 8.0 * config.per_device_eval_batch_size if config.evaluates else 0.0
    return max(trained, evaluated) * plan.max_length * vocab


def _tokens(config: TrainingConfig, plan: Plan, length: int) -> int:
    """Return the tokens of a micro-batch of rows of this length."""
    if plan.facts.generates:
        length += plan.max_completion_length
    return plan.facts.sequences(config.rows_per_pass) * length


def _full_fine_tuning(plan: Plan, model: ModelInfo) -> float:
    """Return the extra bytes of training all weights: the head's gradient, twice.

    In 16-bit precision weights that are stored in 32 bits are copied.
    """
    if plan.trains != "all":
        return 0.0
    head = (model.vocab or 0) * (model.hidden_size or 0)
    if plain_bytes(plan) == 4:
        return 8.0 * head
    # Products in FP8 copy a weight only while they are computed.
    copied = model.embedding_weights if plan.fp8_recipe is not None else model.parameters or 0
    return 10.0 * head + (2.0 * copied if plan.trained_bytes == 4 else 0.0)


def _dequantized(plan: Plan, model: ModelInfo) -> float:
    # Quantized layers are dequantized for a multiplication, one at a time; FP8 copies a weight.
    size = plain_bytes(plan) if plan.quantization != "none" else bool(plan.fp8_recipe)
    return max(inputs * outputs for inputs, outputs in model.layer_matrices) * size
