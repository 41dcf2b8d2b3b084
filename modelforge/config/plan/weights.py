"""The part of the plan about weights: how they are stored, multiplied and attended to."""

from __future__ import annotations

from typing import Literal

from modelforge.config.optimizers import SCHEMES, StorageFormat
from modelforge.config.plan.context import ChangeLog, PlanContext
from modelforge.config.schema.config import TrainingConfig

# The package of each kind of flash attention, and the cards it has kernels for.
FLASH = {
    "flash_attention_2": ("flash_attn", "compute capability 8.0 or more", (8, 0), (99, 0)),
    "flash_attention_3": ("flash_attn_interface", "compute capability 9.0", (9, 0), (10, 0)),
}


def quantization(config: TrainingConfig, ledger: ChangeLog) -> StorageFormat:
    """Return how the frozen weights are stored."""
    scheme = config.quantization.scheme
    stored: StorageFormat = "4-bit" if config.use_4bit else "none"
    if scheme != "auto":
        stored = SCHEMES[scheme]
        reason = f"The scheme is {scheme}."
    elif config.use_8bit:
        stored = "8-bit"
        reason = "Only 8-bit was asked for."
    if not config.adapter.enabled and stored != "none":
        stored = "none"
        reason = "Every weight is trained, and quantized weights cannot be."
    if config.use_4bit and stored != "4-bit":
        ledger.record("use_4bit", False, reason)
    return stored


def precision(config: TrainingConfig, ground: PlanContext) -> Literal["fp32", "fp16", "bf16"]:
    """Return the number format while training; what was said, or the best there is."""
    if config.bf16:
        return "bf16"
    if config.fp16:
        return "fp16"
    wanted = config.hardware.precision
    if wanted != "auto":
        return wanted
    if {"fp16", "bf16"} & config.model_fields_set:
        return "fp32"
    if ground.device != "cuda":
        return "fp32"
    return "bf16" if (ground.compute_capability or (0, 0)) >= (8, 0) else "fp16"


def compute_dtype(config: TrainingConfig, precision: str, stored: str, ledger: ChangeLog) -> str:
    """Return the number format in which 4-bit weights are multiplied."""
    said = config.bnb_4bit_compute_dtype
    if stored != "4-bit" or "bnb_4bit_compute_dtype" in config.model_fields_set:
        return said
    follow = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[precision]
    if follow != said:
        ledger.record(
            "bnb_4bit_compute_dtype", follow, f"Follows the training precision {precision}."
        )
    return follow


def attention(
    config: TrainingConfig, ground: PlanContext, precision: str, ledger: ChangeLog
) -> str:
    """Return how attention is computed: as said, or sdpa where that cannot be."""
    said = config.model.attn_implementation
    if said not in FLASH:
        return said
    package, cards, lowest, beyond = FLASH[said]
    if ground.device != "cuda":
        reason = "Flash attention needs a CUDA card."
    elif not lowest <= (ground.compute_capability or (0, 0)) < beyond:
        reason = f"It needs a card of {cards}."
    elif package not in ground.packages:
        reason = f"The package {package} is not installed."
    elif precision == "fp32":
        reason = "It works in 16 bits only, and this run is in fp32."
    else:
        return said
    return str(ledger.record("model.attn_implementation", "sdpa", reason))


def lora_alpha(config: TrainingConfig, ledger: ChangeLog) -> int:
    """Return the adapter's alpha, from its ratio to the rank where that is given."""
    ratio = config.adapter.alpha_over_r
    if ratio is None:
        return config.lora_alpha
    alpha = max(1, int(ratio * config.lora_r))
    if alpha != config.lora_alpha:
        ledger.record("lora_alpha", alpha, f"{ratio:g} times the rank of {config.lora_r}.")
    return alpha


def adapter_dtype(
    config: TrainingConfig, precision: str, ledger: ChangeLog
) -> Literal["float32", "bfloat16"]:
    """Return the number format in which the adapter is kept."""
    if config.adapter.dtype != "bfloat16":
        return "float32"
    if precision == "fp16":
        reason = "Training in fp16 scales gradients, which bfloat16 has no way for."
        ledger.record("adapter.dtype", "float32", reason)
        return "float32"
    return "bfloat16"
