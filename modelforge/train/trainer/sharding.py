"""Arguments with which several GPUs divide a model: those of FSDP2 and of DeepSpeed."""

from __future__ import annotations

from typing import Any

from accelerate import ParallelismConfig

from modelforge.config.plan.make import Plan
from modelforge.config.schema.runtime import DEEPSPEED, Sharding

# Transformers fills in the number from its own arguments.
AUTO = "auto"


def sharding_arguments(plan: Plan) -> dict[str, Any]:
    """Return the arguments that divide the model among processes; ddp needs none."""
    if plan.sharding == "fsdp2":
        return {
            "fsdp": True,
            "fsdp_config": {"version": 2, "state_dict_type": "FULL_STATE_DICT"},
            **_sequences(plan),
        }
    if plan.sharding in DEEPSPEED:
        return {"deepspeed": deepspeed_config(plan.sharding)}
    return {}


def _sequences(plan: Plan) -> dict[str, Any]:
    """Return the argument with which several processes share the tokens of a row."""
    size = plan.sequence_parallel_size
    if size == 1:
        return {}
    parallel = ParallelismConfig(dp_shard_size=plan.replicas, cp_size=size)
    return {"parallelism_config": parallel}


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
