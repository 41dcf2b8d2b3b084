"""The part of the plan about weights: storage, number formats, attention and LoRA scaling."""

from __future__ import annotations

from typing import Literal

from modelforge.config.methods import facts_of
from modelforge.config.optimizers import SCHEMES, StorageFormat
from modelforge.config.plan.context import ChangeLog, Device, PlanContext
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.model import is_hub_kernel

# Package, and the compute capability of the GPUs it has kernels for: in words, from, below.
FLASH = {
    "flash_attention_2": ("flash_attn", "compute capability 8.0 or higher", (8, 0), (99, 0)),
    "flash_attention_3": ("flash_attn_interface", "compute capability 9.0", (9, 0), (10, 0)),
}

WeightsDtype = Literal["float32", "bfloat16", "float16"]
_DTYPES: dict[str, WeightsDtype] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# Packing that separates examples by `position_ids`, as padding-free batches do.
POSITION_PACKING = ("bfd", "bfd_split")
# PyTorch's own flash attention over rows that lie end to end.
VARLEN = "varlen"
VARLEN_FROM = (8, 0)

# Model types, without their suffix "_text", that overflow in fp16: FORCE_FLOAT32 of Unsloth, and
# T5, which was trained in bf16 (huggingface/transformers#14189).
FP16_OVERFLOWS = {
    *("gemma3", "gemma3n", "gemma4", "glm4_moe", "gpt_oss", "qwen3_5", "qwen3_moe"),
    *("t5", "mt5", "umt5"),
}


def overflows_in_fp16(model_type: str) -> bool:
    """Return whether activations or gradients of these models are too large for fp16."""
    return model_type.removesuffix("_text") in FP16_OVERFLOWS


def quantization(config: TrainingConfig, device: Device, log: ChangeLog) -> StorageFormat:
    """Return the storage format of the frozen weights.

    4 bits are the default on an NVIDIA GPU only: on other devices they are slow.
    """
    if config.progressive.enabled:
        return SCHEMES[config.progressive.trunk_quantization]
    scheme = config.quantization.scheme
    stored: StorageFormat = "4-bit" if config.use_4bit else "none"
    if scheme != "auto":
        stored = SCHEMES[scheme]
        reason = f"The scheme is {scheme}."
    elif config.use_8bit:
        stored = "8-bit"
        reason = "8-bit weights are selected."
    elif stored == "4-bit" and device != "cuda" and _is_default(config):
        stored = "none"
        reason = "Without an NVIDIA GPU 4-bit weights are slow, so they are used only where set."
    if not config.adapter.enabled and stored != "none":
        stored = "none"
        reason = "All weights are trained, and quantized weights cannot be trained."
    if config.quantization.fp8_training and stored != "none":
        stored = "none"
        reason = "Training in FP8 multiplies weights that are not quantized."
    if config.use_4bit and stored != "4-bit":
        log.record("use_4bit", False, reason)
    return stored


def _is_default(config: TrainingConfig) -> bool:
    """Return whether nothing selects 4-bit weights but their default."""
    return "use_4bit" not in config.model_fields_set and config.strategy != "qlora"


def fp8_recipe(config: TrainingConfig) -> str | None:
    """Return the scaling of FP8 products in training; None without them."""
    return config.quantization.fp8_recipe if config.quantization.fp8_training else None


def precision(config: TrainingConfig, context: PlanContext) -> Literal["fp32", "fp16", "bf16"]:
    """Return the number format of training: the configured one, or the best of the device."""
    if config.bf16:
        return "bf16"
    if config.fp16:
        return "fp16"
    if config.hardware.precision != "auto":
        return config.hardware.precision
    if {"fp16", "bf16"} & config.model_fields_set or context.device != "cuda":
        return "fp32"
    return "bf16" if (context.compute_capability or (0, 0)) >= (8, 0) else "fp16"


def usual_dtype(precision: str, trains: str) -> WeightsDtype:
    """Return the number format of the weights where none is set.

    Weights that are trained in full stay in 32 bits for every compute precision.
    """
    return "float32" if trains == "all" else _DTYPES[precision]


def dtype(config: TrainingConfig, precision: str, log: ChangeLog) -> WeightsDtype:
    """Return the number format of the weights that are not quantized."""
    trains = "adapter" if config.adapter.enabled or _has_frozen_trunk(config) else "all"
    usual = usual_dtype(precision, trains)
    if config.model.dtype == "auto":
        return usual
    if trains == "all" and precision == "fp16" and config.model.dtype != "float32":
        reason = "The gradient scaler of fp16 needs trained weights in float32."
        return log.record("model.dtype", "float32", reason)
    return config.model.dtype


def _has_frozen_trunk(config: TrainingConfig) -> bool:
    """Return whether the weights of the base model never train, though new ones do."""
    group = config.progressive
    return group.enabled and not config.pretraining.enabled and not group.joint_tuning_steps


def compute_dtype(config: TrainingConfig, precision: str, stored: str, log: ChangeLog) -> str:
    """Return the number format of multiplications with 4-bit weights."""
    configured = config.bnb_4bit_compute_dtype
    if stored != "4-bit" or "bnb_4bit_compute_dtype" in config.model_fields_set:
        return configured
    dtype = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[precision]
    if dtype != configured:
        reason = f"Follows the training precision {precision}."
        log.record("bnb_4bit_compute_dtype", dtype, reason)
    return dtype


def attention(config: TrainingConfig, context: PlanContext, precision: str, log: ChangeLog) -> str:
    """Return the attention implementation: the configured one, or sdpa where it cannot run."""
    configured = config.model.attn_implementation
    if configured == VARLEN:
        reason = _no_varlen(config, context, precision)
        return log.record("model.attn_implementation", "sdpa", reason) if reason else VARLEN
    if is_hub_kernel(configured):
        return _hub_kernel(configured, context, precision, log)
    if configured not in FLASH:
        return configured
    package, gpus, lowest, beyond = FLASH[configured]
    if context.device != "cuda":
        reason = "Flash attention needs an NVIDIA GPU."
    elif not lowest <= (context.compute_capability or (0, 0)) < beyond:
        reason = f"It needs a GPU of {gpus}."
    elif package not in context.packages:
        reason = f"The package {package} is not installed."
    elif precision == "fp32":
        reason = "It needs a 16-bit precision; this run uses fp32."
    else:
        return configured
    return log.record("model.attn_implementation", "sdpa", reason)


def _no_varlen(config: TrainingConfig, context: PlanContext, precision: str) -> str:
    """Return why rows cannot, or need not, be kept apart by their lengths; empty if they are."""
    if not joins_rows(config):
        return "It is for rows that lie end to end: with packing or padding-free batches."
    if context.device != "cuda":
        return "It needs an NVIDIA GPU."
    if (context.compute_capability or (0, 0)) < VARLEN_FROM:
        return "It needs a GPU of compute capability 8.0 or higher."
    if precision == "fp32":
        return "It needs a 16-bit precision; this run uses fp32."
    return ""


def joins_rows(config: TrainingConfig) -> bool:
    """Return whether rows lie end to end, and are kept apart by their positions."""
    if not facts_of(config).joins_rows:
        return False
    return config.data.padding_free or (
        config.packing and config.data.packing_strategy in POSITION_PACKING
    )


def _hub_kernel(kernel: str, context: PlanContext, precision: str, log: ChangeLog) -> str:
    if context.device != "cuda":
        reason = "Attention kernels of the Hub need an NVIDIA GPU."
    elif precision == "fp32":
        reason = "It needs a 16-bit precision; this run uses fp32."
    else:
        return kernel
    return log.record("model.attn_implementation", "sdpa", reason)


def effective_alpha(config: TrainingConfig) -> int:
    """Return LoRA alpha: the configured one, or the multiple of the rank where that is given."""
    ratio = config.adapter.alpha_over_r
    return config.lora_alpha if ratio is None else max(1, int(ratio * config.lora_r))


def lora_alpha(config: TrainingConfig, log: ChangeLog) -> int:
    """Return `effective_alpha` and record a change."""
    alpha = effective_alpha(config)
    if alpha != config.lora_alpha:
        reason = f"{config.adapter.alpha_over_r:g} times the rank of {config.lora_r}."
        log.record("lora_alpha", alpha, reason)
    return alpha


def adapter_dtype(
    config: TrainingConfig, precision: str, log: ChangeLog
) -> Literal["float32", "bfloat16"]:
    """Return the number format of the adapter's weights."""
    if config.adapter.dtype != "bfloat16":
        return "float32"
    if precision == "fp16":
        reason = "The gradient scaler of fp16 does not support bfloat16."
        log.record("adapter.dtype", "float32", reason)
        return "float32"
    return "bfloat16"
