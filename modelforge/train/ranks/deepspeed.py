"""The configuration of DeepSpeed, whose numbers Transformers fills in from its own arguments."""

from __future__ import annotations

from typing import Any

from modelforge.config.schema.runtime import DEEPSPEED, Sharding

AUTO = "auto"


def deepspeed_config(sharding: Sharding) -> dict[str, Any]:
    """Return the configuration of zero1, zero2 or zero3; weights are gathered to be saved."""
    stage = DEEPSPEED.index(sharding) + 1
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    if stage == len(DEEPSPEED):
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": AUTO},
        "fp16": {"enabled": AUTO},
        "gradient_accumulation_steps": AUTO,
        "gradient_clipping": AUTO,
        "train_batch_size": AUTO,
        "train_micro_batch_size_per_gpu": AUTO,
        # The optimizers of the settings are those of torch and bitsandbytes.
        "zero_allow_untested_optimizer": True,
    }
