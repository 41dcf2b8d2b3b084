"""Surogate: its YAML files, by its documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from modelforge.config.engines import COMMANDS, read_engine_options, uses_surogate
from modelforge.config.exporters.every_system import RULES as EVERYWHERE
from modelforge.config.exporters.facts import Facts
from modelforge.config.exporters.report import Written
from modelforge.config.exporters.rules import (
    Rule,
    default_only,
    elsewhere,
    learning_rate,
    left_out,
    names,
    not_needed,
    option,
    steps,
    steps_of,
    words,
)
from modelforge.config.exporters.system import TargetSystem, written_sources
from modelforge.config.exporters.training_arguments import AT_EVALUATIONS, split_differs
from modelforge.config.plan.context import Change
from modelforge.config.plan.memory import GRAPH_MODES
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source
from modelforge.errors import Problem

if TYPE_CHECKING:
    from modelforge.config.plan.make import Plan

_SAME = (
    *("path", "type", "subset", "split", "samples", "text_field", "instruction_field"),
    *("input_field", "output_field", "messages_field", "system_field", "tools_field"),
    *("message_property_mappings", "system_prompt_type", "system_prompt_field", "system_prompt"),
    *("prompt_format", "prompt_format_no_input", "prompt_field", "chosen_field", "rejected_field"),
)
_SOURCE = {name: name for name in _SAME}
SCHEDULES = {
    "linear": "linear", "cosine": "cosine", "warmup_stable_decay": "wsd", "constant": "constant",
}  # fmt: skip
QUANTIZED = {"4-bit": "qlora_bnb", "fp8": "qlora_fp8", "nvfp4": "qlora_fp4"}
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "auto": "auto"}
PARTS = ("swiglu", "rmsnorm", "ffn", "qkv", "att", "block", "lora")
TRAINED = {"assistant": "default", "last_round": "last_round", "all": "all"}


def _sources(_value: Any, facts: Facts) -> Written:
    if facts.data:
        entry = {"path": facts.data, "type": "preference" if facts.method == "dpo" else "auto"}
        return Written({"datasets": [entry]}, "All sources are written into one file.")
    return written_sources("datasets", facts.sources, _SOURCE, facts)


def _validation(value: list[Source], facts: Facts) -> Written:
    return written_sources("validation_datasets", value, _SOURCE, facts)


def _optimizer(value: str, facts: Facts) -> Written:
    if value == "adamw_8bit":
        return Written({"optimizer": value})
    if value == "normuon":
        return _normuon(facts)
    if value == "paged_adamw_8bit":
        options = {"optimizer": "adamw_8bit", "offload_optimizer": True}
        return Written(options, "Its state is moved to the memory of the host.")
    why = f"Surogate has AdamW in 8 bits and NorMuon; adamw_8bit stands for {value}."
    return Written({"optimizer": "adamw_8bit"}, why, is_lost="adamw" not in value)


def _normuon(facts: Facts) -> Written:
    ours = facts.config.optimizer
    options = {
        "optimizer": "normuon",
        "normuon_momentum": ours.muon_momentum,
        "normuon_beta2": ours.muon_beta2,
        "normuon_cautious_wd": ours.cautious_weight_decay,
    }
    if ours.muon_scale == "original":
        return Written(options, "With its options there.")
    why = "Updates have the size of those of the first paper on Muon there: raise the rate."
    return Written(options, why, is_lost=True)


def _schedule(value: str, facts: Facts) -> Written:
    if value not in SCHEDULES:
        return Written(
            why=f"Surogate has no schedule {value}; its default is linear.", is_lost=True
        )
    schedule = facts.config.schedule
    options: dict[str, Any] = {"lr_scheduler_type": SCHEDULES[value]}
    if schedule.final_lr_fraction:
        options["final_lr_fraction"] = schedule.final_lr_fraction
    if value != "warmup_stable_decay" and not facts.cools_down:
        return Written(options)
    steps = facts.decay_steps
    if 0 < steps < 1:
        why = "The decay is a share of the steps here, and cooldown_steps a number: give max_steps."
        return Written(options, why, is_lost=True)
    if schedule.decay_shape != "linear":
        why = f"The decay is not of the shape {schedule.decay_shape} there."
        return Written(options | {"cooldown_steps": steps}, why, is_lost=True)
    return Written(options | {"cooldown_steps": steps}, "Its names there.")


def _warmup(value: float, facts: Facts) -> Written:
    steps = facts.config.schedule.warmup_steps
    if steps is not None:
        return Written({"warmup_steps": steps}, "schedule.warmup_steps decides.")
    return Written({"warmup_ratio": value})


def _precision(_value: Any, facts: Facts) -> Written:
    dtype = facts.config.model.dtype
    used = DTYPES[facts.precision] if dtype == "auto" else dtype
    return Written({"torch_dtype": used}, "The number format of the weights.")


def _padding(value: str, _: Facts) -> Written:
    return Written({} if value == "auto" else {"padding_side": value})


def _rope(value: str, facts: Facts) -> Written:
    factor = facts.config.model.rope_factor
    if value == "none":
        return Written(why="This value asks for nothing.")
    if factor is not None:
        return Written({"rope_scaling": json.dumps({"rope_type": value, "factor": factor})})
    if facts.target_length is None:
        why = "Surogate needs the length that it reaches: set model.max_model_len."
        return Written(why=why, is_lost=True)
    return Written({"rope_scaling": value, "max_model_len": facts.target_length})


def _storage(_value: str, facts: Facts) -> Written:
    if facts.storage == "none":
        return Written(why="The weights are not quantized.")
    if facts.storage not in QUANTIZED:
        why = f"Surogate does not store weights in {facts.storage}; they are whole there."
        return Written(why=why, is_lost=True)
    return Written({QUANTIZED[facts.storage]: True}, "A switch there.")


def _recipe(value: bool, facts: Facts) -> Written:
    if not value:
        return Written()
    if facts.config.quantization.fp8_recipe == "rowwise":
        return Written({"recipe": "fp8_hybrid"}, "With one scale for a tensor there.", is_lost=True)
    return Written({"recipe": "fp8_hybrid"}, "Its name there.")


def _block_size(value: str, facts: Facts) -> Written:
    if facts.storage != "fp8" or value == "auto":
        return Written()
    if value in ("16", "32"):
        return Written(why="Its blocks have sides of 64, 128 or 256.", is_lost=True)
    return Written({"qlora_block_size": int(value)}, "Its name there.")


def _four_over_six(value: bool, facts: Facts) -> Written:
    return Written({"qlora_four_over_six": value} if facts.storage == "nvfp4" else {})


def _quant_type(value: str, _: Facts) -> Written:
    if value == "nf4":
        return Written(why="The format of qlora_bnb.")
    return Written(why="qlora_bnb stores weights in NF4.", is_lost=True)


def _checkpointing(value: bool, _: Facts) -> Written:
    if value:
        return Written({"recompute_block": True}, "Its name there: blocks are recomputed.")
    # All of them are on where a file says nothing, and some switch others on.
    return Written({f"recompute_{part}": False for part in PARTS}, "A switch for each part.")


def _graphs(value: str, facts: Facts) -> Written:
    if not facts.config.trainer.torch_compile:
        return Written()
    return Written({"use_cuda_graphs": value in GRAPH_MODES}, "A switch there.")


def _length(value: int | None, facts: Facts) -> Written:
    why = "" if value == facts.max_length else "What the profile and the model give."
    return Written({"sequence_len": facts.max_length}, why)


def _alpha(value: int, facts: Facts) -> Written:
    used = facts.lora_alpha
    return Written({"lora_alpha": used}, "" if used == value else "The multiple of the rank.")


def _loss_on(value: str, _: Facts) -> Written:
    if value in TRAINED:
        return words("loss_scale", TRAINED, "")(value, _)
    return Written({"loss_scale": "default"}, "Completions and the answers of conversations.")


def _save_steps(value: int | None, facts: Facts) -> Written:
    if facts.save_steps == -1:
        why = "Checkpoints cannot be switched off; save_steps is more than any run has."
        return Written({"save_steps": 10**9}, why)
    why = "" if value == facts.save_steps else AT_EVALUATIONS
    return Written({"save_steps": facts.save_steps}, why)


def _device(value: str, _: Facts) -> Written:
    return left_out("Surogate trains on NVIDIA GPUs alone.", ["auto", "cuda"])(value, _)


def _split(value: float, facts: Facts) -> Written:
    if facts.config.data.validation_sources:
        return Written({"validation_split_ratio": 0.0}, "The evaluation rows have their own files.")
    return Written({"validation_split_ratio": value})


def _attention(value: str, _: Facts) -> Written:
    return left_out("Surogate has its own attention kernels.", ["sdpa", "varlen"])(value, _)


def _dtype(value: str, _: Facts) -> Written:
    return Written({"lora_dtype": "bf16" if value == "bfloat16" else "fp32"}, "Its name there.")


def _targets(value: str, facts: Facts) -> Written:
    return names("lora_target_modules")(value, facts)


def _engine_options(value: str, _: Facts) -> Written:
    options, _wrong = read_engine_options(value)
    return Written(options, "As they are written." if options else "")


def _beta(value: float, _: Facts) -> Written:
    return Written({"loss": {"type": "dpo", "dpo_beta": value}}, "In its group of the loss.")


def _loss(value: str, _: Facts) -> Written:
    if value == "sigmoid":
        return Written(why="The loss of DPO there.")
    return Written(why="Its DPO has the loss sigmoid alone.", is_lost=True)


def _check(facts: Facts) -> Iterator[Problem]:
    if facts.method not in COMMANDS:
        what = f"Surogate trains SFT and DPO; these settings are {facts.about_method.label}."
        yield Problem("strategy", what, "Export them to trl, axolotl or llama-factory.")


def _finish(facts: Facts) -> Mapping[str, Any]:
    # Adapters of preferences are trained without dropout; its default there is above 0.
    dropout = {"lora_dropout": 0.0} if facts.method == "dpo" else {}
    return {**dropout, "output_dir": "output"}


RULES: dict[str, Rule] = {
    **EVERYWHERE,
    "task": not_needed("Every task is text in, text out."),
    "strategy": not_needed("Supervised training; qlora_* say how the weights are stored."),
    "model_name": option("model"),
    "data.sources": _sources,
    "data.validation_sources": _validation,
    "eval_split": _split,
    "max_seq_length": _length,
    "data.truncation_strategy": option("truncation_strategy"),
    "data.loss_on": _loss_on,
    "data.padding_free": option("padding_free"),
    "data.packing_strategy": not_needed("Surogate has its own way of packing."),
    "data.num_workers": option("dataloader_num_workers"),
    "packing": option("sample_packing"),
    "group_by_length": left_out("Rows are in random order there."),
    "model.chat_template": option("template"),
    "model.system_prompt": option("system"),
    "model.attn_implementation": _attention,
    "data.use_chat_template": option("use_chat_template"),
    "data.padding_side": _padding,
    "model.allow_hub_kernels": not_needed("Surogate has its own attention kernels."),
    "model.response_prefix": option("response_prefix"),
    "model.dtype": elsewhere("hardware.precision"),
    "model.rope_type": _rope,
    "model.rope_factor": elsewhere("model.rope_type"),
    "model.max_model_len": option("max_model_len"),
    "hardware.precision": _precision,
    "hardware.device": _device,
    "hardware.engine_options": _engine_options,
    "gradient_checkpointing": _checkpointing,
    "memory.activation_offload": option("offload_residual"),
    "hardware.torch_compile_mode": _graphs,
    "optim": _optimizer,
    "optimizer.beta1": option("adamw_beta1"),
    "optimizer.beta2": option("adamw_beta2"),
    "optimizer.epsilon": option("adamw_epsilon"),
    "learning_rate": learning_rate,
    "lr_scheduler_type": _schedule,
    "warmup_ratio": _warmup,
    "weight_decay": option("weight_decay"),
    "max_grad_norm": option("max_grad_norm"),
    "per_device_train_batch_size": option("per_device_train_batch_size"),
    "per_device_eval_batch_size": not_needed("It changes no result."),
    "gradient_accumulation_steps": option("gradient_accumulation_steps"),
    "num_train_epochs": option("num_epochs"),
    "max_steps": steps,
    "trainer.fractional_epochs": steps_of("trainer.fractional_epochs"),
    "eval_steps": option("eval_steps"),
    "trainer.save_steps": _save_steps,
    "trainer.save_total_limit": option("save_total_limit"),
    "evaluation.keep_best": left_out("Surogate keeps the newest weights, not the best."),
    "trainer.seed": option("train_seed"),
    "trainer.neftune_noise_alpha": left_out("Surogate adds no noise to the embeddings."),
    "trainer.torch_compile": left_out("Surogate has compiled kernels of its own."),
    "trainer.preference_beta": _beta,
    "trainer.preference_loss": _loss,
    "trainer.precompute_ref_log_probs": not_needed("Surogate always asks the reference before."),
    "adapter.enabled": option("lora"),
    "lora_r": option("lora_rank"),
    "lora_alpha": _alpha,
    "lora_dropout": option("lora_dropout"),
    "adapter.target_modules": _targets,
    "adapter.modules_to_save": left_out("Modules are not trained in full beside an adapter."),
    "adapter.use_rslora": left_out("Adapters are scaled by the rank."),
    "adapter.use_dora": left_out("Surogate has no DoRA."),
    "adapter.init": default_only("adapter.init", "Adapters start with the usual weights."),
    "adapter.dtype": _dtype,
    "adapter.start_from": left_out("The adapter that training starts from cannot be named."),
    "adapter.merge_after_training": option("merge_adapter"),
    "quantization.scheme": _storage,
    "quantization.fp8_training": _recipe,
    "quantization.fp8_block_size": _block_size,
    "quantization.four_over_six": _four_over_six,
    "quantization.skip_first_layers": option("skip_quant_first_layers"),
    "quantization.skip_last_layers": option("skip_quant_last_layers"),
    "use_nested_quant": option("qlora_bnb_double_quant"),
    "bnb_4bit_quant_type": _quant_type,
    "bnb_4bit_compute_dtype": not_needed("It follows the precision of the training."),
    "logging.run_name": option("run_name"),
    "logging.logging_steps": not_needed("Surogate logs every step."),
    "logging.report_to": names("report_to"),
    "logging.project": option("wandb_project"),
    "logging.experiment": option("aim_experiment"),
    "logging.repo": option("aim_repo"),
    "logging.log_file": option("log_file"),
    "logging.time_breakdown": option("debug_time_breakdown"),
    "logging.memory_breakdown": option("debug_memory_breakdown"),
}
SYSTEM = TargetSystem(
    name="surogate",
    title="Surogate",
    file_name="surogate.yaml",
    rules=RULES,
    check=_check,
    finish=_finish,
    command=lambda facts: f"surogate {COMMANDS[facts.method]} FILE",
    losses=split_differs,
)


def unread_settings(config: TrainingConfig, plan: Plan) -> list[Change]:
    """Return a change for each setting that Surogate does not read; none for our own engine."""
    if not uses_surogate(config) or plan.method not in COMMANDS:
        return []
    _options, report = SYSTEM.walk(Facts(config, plan))
    return [
        Change(line.setting, line.value, None, f"Surogate does not read it: {line.why}")
        for line in report
        if line.result == "left-out"
    ]
