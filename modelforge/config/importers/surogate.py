"""Surogate: its YAML files. Options and defaults are those of its documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.importers import surogate_logging
from modelforge.config.importers.from_nothing import surogate as from_nothing
from modelforge.config.importers.options import (
    Option,
    Values,
    by,
    converted,
    no_effect,
    refused,
    renamed,
    rope_scaling,
    taken,
    trained_dtype,
    words,
)
from modelforge.config.importers.precision.surogate import (
    QLORA,
    block_size,
    four_over_six,
    graphs,
    quantized,
    recipe,
)
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.shared import gpus
from modelforge.config.importers.shared.optimizers import (
    cooldown,
    normuon_options,
    surogate_optimizer,
)
from modelforge.config.importers.shared.resuming import resumed
from modelforge.config.importers.surogate_data import (
    data_problems,
    has_preferences,
    preference_loss,
    sources,
)
from modelforge.config.importers.surogate_engine import engine_settings, with_engine_options
from modelforge.config.importers.system import System
from modelforge.config.importers.training_arguments import epochs
from modelforge.errors import Problem

PIECE = "PyTorch recomputes whole layers; recompute_block decides here."
BUFFERS = "A buffer of Surogate's own engine; PyTorch has no such switch."
PARTS = tuple(f"recompute_{part}" for part in ("swiglu", "rmsnorm", "ffn", "qkv", "att", "lora"))
BLOCK, ATTENTION, FFN = "recompute_block", "recompute_att", "recompute_ffn"
# What another option includes there.
IMPLIED_BY = {
    "recompute_swiglu": (FFN, BLOCK),
    "recompute_qkv": (ATTENTION, BLOCK),
    ATTENTION: (BLOCK,),
    FFN: (BLOCK,),
    "recompute_rmsnorm": (BLOCK,),
}
PRECISIONS = {"auto": "auto", "bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
OFFERED = "It is not offered here."


def _lora_targets(value: Any) -> str:
    names = [value] if isinstance(value, str) else list(value)
    return "all-linear" if names in (["all-linear"], ["all"]) else ", ".join(map(str, names))


def _recompute(value: bool, values: Values) -> Outcome:
    settings = {"gradient_checkpointing": True}
    if value:
        return Outcome("converted", settings, "The same, under its name here.")
    # Every other one is on there unless it is switched off.
    parts = [name for name in PARTS if values.get(name) is not False]
    if "recompute_lora" in parts and values.get("lora") is not False:
        why = "recompute_lora is on there, which switches it on again."
        return Outcome("converted", settings, why)
    parts = [name for name in parts if name != "recompute_lora"]
    if parts:
        why = f"{parts[0]} is on there, for a part of a layer; here whole layers are recomputed."
        return Outcome("converted", settings, why)
    return Outcome("converted", {"gradient_checkpointing": False}, "Nothing is recomputed.")


def _part(name: str) -> Option:
    def read(value: bool, values: Values) -> Outcome:
        implied = [other for other in IMPLIED_BY.get(name, ()) if values.get(other) is True]
        if not value and implied:
            return Outcome("no-effect", why=f"{implied[0]} includes it. {PIECE}")
        return Outcome("no-effect", why=PIECE)

    return by(read, kind="bool")


def _saved(value: int, _: Values) -> Outcome:
    if value == 0:
        return Outcome("converted", {"trainer.save_steps": -1}, "Saved at the end alone.")
    return Outcome("renamed", {"trainer.save_steps": value})


def _evaluated(value: int, _: Values) -> Outcome:
    if value == 0:
        return Outcome("converted", {"eval_split": 0.0}, "0 switches the evaluation off.")
    return Outcome("taken", {"eval_steps": value})


def _length(value: int, values: Values) -> Outcome:
    other = values.get("max_length")
    if isinstance(other, int) and other < value:
        return Outcome("no-effect", why=f"max_length, {other}, is less.")
    return Outcome("renamed", {"max_seq_length": value})


def _max_length(value: int, values: Values) -> Outcome:
    other = values.get("sequence_len")
    if isinstance(other, int) and other <= value:
        return Outcome("no-effect", why=f"sequence_len, {other}, is not more.")
    return Outcome("renamed", {"max_seq_length": value})


def _dtype(value: str, values: Values) -> Outcome:
    settings = {"hardware.precision": PRECISIONS[value]}
    if values.get("lora") is False and not values.get("master_dtype"):
        settings |= trained_dtype(value)
    return Outcome("converted", settings, "The weights have the precision of the training.")


def _master(value: str, values: Values) -> Outcome:
    if value == "auto" or values.get("lora") is not False:
        return Outcome("no-effect", why="The weights below an adapter have no other copy.")
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[value]
    why = "The copy that the optimizer changes is the one that is kept here."
    return Outcome("converted", {"model.dtype": dtype}, why)


def _check(values: Values) -> Iterator[Problem]:
    chosen = [name for name in QLORA if values.get(name) is True]
    if len(chosen) > 1:
        what = f"{' and '.join(chosen)} are both on; they exclude each other."
        yield Problem(chosen[1], what, "Keep one of them.")
    if chosen and values.get("lora") is False:
        what = f"{chosen[0]} needs lora, which is off."
        yield Problem(chosen[0], what, "Switch lora on, or leave it out.")
    yield from data_problems(values)
    yield from from_nothing.problems(values)
    yield from _engine_problems(values)


def _engine_problems(values: Values) -> Iterator[Problem]:
    """Yield options whose condition is off there."""
    needs = (("offload_quants", "persistent_quants"), ("persistent_quants", "shard_weights"))
    for name, needed in needs:
        if values.get(name) is True and values.get(needed) is not True:
            what = f"{name} needs {needed}, which is off."
            yield Problem(name, what, f"Switch {needed} on, or leave {name} out.")
    rope = values.get("rope_scaling")
    if rope in ("linear", "dynamic", "yarn") and not values.get("max_model_len"):
        what = f"{rope} needs max_model_len."
        yield Problem("rope_scaling", what, "Enter the length that it shall reach.")


def _finish(values: Values, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Surogate decides by leaving an option out."""
    found: dict[str, Any] = {"task": "text-generation", "provider": "huggingface"}
    found["group_by_length"] = False
    strategy = "dpo" if has_preferences(values) else "sft"
    found["strategy"] = settings.get("strategy", strategy)
    if values.get("eval_steps") == 0:
        found["eval_split"] = 0.0
    if not any(values.get(name) for name in QLORA):
        found["quantization.scheme"] = "none"
    found |= from_nothing.settings(values)
    return found | engine_settings(values, KEPT)


OPTIONS: dict[str, Option] = {
    "run_name": renamed("logging.run_name", kind="text"),
    "apply_recommended_values": no_effect("The page has a button for it."),
    "num_epochs": from_nothing.unless_scratch(epochs(3), from_nothing.LENGTH),
    "output_dir": no_effect("Runs are stored in the folder of ModelForge."),
    "checkpoint_dir": no_effect("Checkpoints are stored in the folder of the run."),
    "resume_from_checkpoint": resumed(False),
    "save_steps": by(_saved, 50, kind="int", least=0),
    "save_total_limit": renamed("trainer.save_total_limit", 5),
    "model": from_nothing.unless_scratch(
        renamed("model_name", kind="text"), "from_scratch borrows its tokenizer."
    ),
    "model_type": no_effect("The type is read from the model."),
    "sequence_len": by(_length, kind="int", least=1),
    "max_model_len": renamed("model.max_model_len", kind="int", least=1),
    "rope_scaling": rope_scaling(),
    "torch_dtype": by(_dtype, choices=tuple(PRECISIONS)),
    **{name: _part(name) for name in PARTS},
    "recompute_block": by(_recompute, True, kind="bool"),
    "offload_residual": renamed("memory.activation_offload", False, kind="bool"),
    **{
        name: refused(BUFFERS, False, kind="bool")
        for name in ("offload_master", "offload_quants", "persistent_quants", "offload_grads")
    },
    "offload_optimizer": by(
        lambda value, _: Outcome(
            *(("converted", {"optim": "paged_adamw_8bit"}) if value else ("no-effect", {})),
            "A paged optimizer moves its state to the memory of the host when the GPU is full."
            if value
            else "This value asks for nothing.",
        ),
        kind="bool",
    ),
    "use_zero_copy": refused(BUFFERS, False, kind="bool"),
    "use_write_combined": refused(BUFFERS, False, kind="bool"),
    "zero_level": by(gpus.zero_level, kind="int", choices=(1, 2, 3)),
    "shard_weights": gpus.shard("fsdp2"),
    "shard_gradients": gpus.shard("zero2"),
    **{
        name: no_effect(BUFFERS, kind="bool")
        for name in ("use_all_to_all_reduce", "memcpy_all_gather", "memcpy_send_recv")
    },
    "gpus": by(gpus.gpu_count, kind="int", least=0),
    "use_cuda_graphs": by(graphs, kind="bool"),
    "recipe": by(
        recipe, "bf16", kind="text", choices=("bf16", "fp8_hybrid", "fp8-hybrid", "nvfp4")
    ),
    "gradient_dtype": no_effect(
        "The precision of the training decides.", choices=("fp32", "bf16", "e5m2")
    ),
    "master_dtype": by(_master, choices=("fp32", "bf16", "auto")),
    "use_fused_rope": no_effect("Unsloth, as the provider, has fused kernels."),
    "fp8_amax_history": no_effect("FP8 is scaled without a history here."),
    "fp4_backend": no_effect("There is no training in FP4 here.", choices=("cutlass", "cudnn")),
    "skip_quant_first_layers": renamed("quantization.skip_first_layers", 0),
    "skip_quant_last_layers": renamed("quantization.skip_last_layers", 0),
    "optimizer": surogate_optimizer(),
    "learning_rate": taken("learning_rate", 2e-4),
    "lr_scheduler_type": words(
        "lr_scheduler_type",
        {"linear": "linear", "cosine": "cosine", "wsd": "wsd", "constant": "constant"},
        "linear",
    ),
    "warmup_ratio": taken("warmup_ratio", 0.0),
    "warmup_steps": renamed("schedule.warmup_steps"),
    "cooldown_steps": by(cooldown, kind="int", least=0),
    "final_lr_fraction": renamed("schedule.final_lr_fraction", 0.0),
    "weight_decay": taken("weight_decay", 0.1),
    "max_grad_norm": taken("max_grad_norm", 1.0),
    "adamw_beta1": renamed("optimizer.beta1", 0.9),
    "adamw_beta2": renamed("optimizer.beta2", 0.999),
    "adamw_epsilon": renamed("optimizer.epsilon", 1e-8),
    **normuon_options(),
    "per_device_train_batch_size": taken("per_device_train_batch_size", 2),
    "gradient_accumulation_steps": from_nothing.unless_scratch(
        by(gpus.batches_of_all(gpus.BATCHES, "gpus"), 4), "pretraining.total_batch_tokens says it."
    ),
    "max_steps": taken("max_steps", -1),
    "eval_steps": by(_evaluated, 100, kind="int", least=0),
    "datasets": sources("data.sources"),
    "validation_datasets": sources("data.validation_sources"),
    "validation_split_ratio": renamed("eval_split", 0.1),
    "train_seed": renamed("trainer.seed", 1234),
    "eval_seed": no_effect("Evaluation rows are read in order; nothing is drawn."),
    "dataloader_num_workers": by(
        lambda value, _: Outcome("renamed", {} if value == "auto" else {"data.num_workers": value}),
        kind="number or text",
    ),
    "sample_packing": from_nothing.unless_scratch(
        renamed("packing", True), "The text is cut into windows, which are always full."
    ),
    "lmhead_chunks": no_effect("TRL computes the loss in chunks here."),
    "attn_bwd_chunks": no_effect("The attention kernels do not store the scores."),
    "init_projections_to_zero": from_nothing.PROJECTIONS,
    "loss": by(preference_loss, kind="map"),
    "from_scratch": from_nothing.SWITCH,
    "recompute": renamed("gradient_checkpointing", kind="bool"),
    "cpu_training": refused("Weights stay on the GPU in training.", False),
    "train_vision": refused("Images are not trained here.", False),
    "ep_size": refused(gpus.EXPERTS, 1),
    **{
        name: refused(OFFERED, False)
        for name in (
            *("ep_load_balance_threshold", "qlora_offload_experts", "sequence_chunks"),
            *("train_router", "router_aux_loss_coef", "router_z_loss_coef"),
            *("offload_saved_tensors", "fp4_four_over_six"),
        )
    },
    "parallelism": by(gpus.parallelism, choices=(None, "ddp", "dispatch_pp")),
    "distributed": by(gpus.distributed, kind="map"),
    "lora": from_nothing.unless_scratch(
        renamed("adapter.enabled", True), "All weights of a new model are trained."
    ),
    "lora_rank": renamed("lora_r", 16),
    "lora_alpha": taken("lora_alpha", 32),
    "lora_dropout": taken("lora_dropout", 0.05),
    "lora_dtype": words(
        "adapter.dtype", {"fp32": "float32", "bf16": "bfloat16", "auto": "auto"}, "fp32"
    ),
    "lora_target_modules": converted(
        "adapter.target_modules",
        _lora_targets,
        "Names with commas.",
        ["all-linear"],
        kind="names",
    ),
    "merge_adapter": renamed("adapter.merge_after_training", False, kind="bool"),
    "qlora_fp4": quantized("nvfp4", "The frozen weights are stored in NVFP4"),
    "qlora_fp8": quantized("fp8", "The frozen weights are stored in FP8"),
    "qlora_bnb": quantized("bnb-4bit", "The frozen weights are stored in NF4"),
    "qlora_block_size": by(block_size, choices=(64, 128, 256)),
    "qlora_bnb_block_size": refused(
        "Transformers has blocks of 64 alone.", 64, choices=(64, 128, 256, 512)
    ),
    "qlora_bnb_double_quant": renamed("use_nested_quant", True),
    "qlora_four_over_six": by(four_over_six, kind="bool"),
    "use_chat_template": renamed("data.use_chat_template", kind="bool"),
    "template": by(
        lambda value, _: (
            Outcome("no-effect", why="The model's own template is used.")
            if value in ("auto", None)
            else Outcome("renamed", {"model.chat_template": value})
        ),
    ),
    "system": renamed("model.system_prompt"),
    "max_length": by(_max_length, kind="int", least=1),
    "truncation_strategy": renamed(
        "data.truncation_strategy", "delete", choices=("delete", "left", "right", "split")
    ),
    "padding_side": renamed("data.padding_side", choices=("left", "right")),
    "padding_free": renamed("data.padding_free"),
    "loss_scale": words(
        "data.loss_on", {"default": "assistant", "last_round": "last_round", "all": "all"}
    ),
    "sequence_parallel_size": renamed("hardware.sequence_parallel_size", kind="int", least=1),
    "response_prefix": renamed("model.response_prefix", kind="text"),
    "max_pixels": refused("Images are not trained here.", None),
    "norm_bbox": refused("Images are not trained here.", None),
    "agent_template": refused("Rows with tools go through the model's template.", None),
    **surogate_logging.OPTIONS,
}

KEPT = with_engine_options(OPTIONS)
SYSTEM = System(
    name="surogate",
    title="Surogate",
    options=KEPT,
    check=_check,
    finish=_finish,
    programs=("surogate",),
)
