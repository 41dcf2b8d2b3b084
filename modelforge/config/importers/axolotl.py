"""Axolotl: its YAML files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.importers.axolotl_data import NOTHING_ASKED, PREFERENCES, datasets
from modelforge.config.importers.axolotl_not_offered import KERNELS, NOT_OFFERED
from modelforge.config.importers.options import (
    Option,
    Values,
    by,
    no_effect,
    refused,
    renamed,
    rope_scaling,
    taken,
)
from modelforge.config.importers.precision.arguments import (
    bf16,
    checkpointing,
    checkpointing_arguments,
    compile_mode,
    offloading,
)
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.shared.optimizers import axolotl_rates
from modelforge.config.importers.shared.results import early_stopping
from modelforge.config.importers.shared.resuming import resumed
from modelforge.config.importers.system import System
from modelforge.config.importers.training_arguments import (
    epochs,
    interval,
    optimizer,
    precision,
    schedule,
    schedule_arguments,
    training_arguments,
    warmup_steps,
)
from modelforge.config.schema.runtime import COMPILE_MODES
from modelforge.errors import Problem

CODE = "It would run code from the model's repository. Models here work without it."
TRACKER_OPTIONS = {"wandb": "wandb_project", "trackio": "trackio_project_name"}
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4")


def _adapter(value: str | None, values: Values) -> Outcome:
    if not value:
        settings = {"adapter.enabled": False, "quantization.scheme": "none"}
        return Outcome(
            "converted", settings | {"strategy": _method(values, "sft")}, "Every weight."
        )
    if value not in ("lora", "qlora"):
        return Outcome("refused", why=f"{value} is not offered here; choose lora or qlora.")
    settings = {"adapter.enabled": True, "strategy": _method(values, "sft")}
    if value == "qlora":
        settings["strategy"] = _method(values, "qlora")
    return Outcome("renamed", settings)


def _method(values: Values, supervised: str) -> str:
    rl = values.get("rl")
    return {"dpo": "dpo", "ipo": "dpo", "orpo": "dpo", "kto": "dpo", "grpo": "rlhf"}.get(
        str(rl), supervised
    )


def _preference(value: str | None, _: Values) -> Outcome:
    losses = {"dpo": "sigmoid", "ipo": "ipo", "orpo": "orpo", "kto": "kto"}
    if value is None:
        return Outcome("no-effect", why=NOTHING_ASKED)
    if value == "grpo":
        settings = {"strategy": "rlhf", "trainer.rlhf_algorithm": "grpo"}
        return Outcome("converted", settings, "Rewards are chosen on the page.")
    if value not in losses:
        return Outcome("refused", why=f"{value} is not offered here.")
    settings = {"strategy": "dpo", "trainer.preference_loss": losses[value]}
    return Outcome("converted", settings, "A preference loss of the method DPO.")


def _loaded(bits: int) -> Option:
    def read(value: bool, _: Values) -> Outcome:
        if not value:
            return Outcome("no-effect", why=NOTHING_ASKED)
        return Outcome("renamed", {f"use_{bits}bit": True})

    return by(read, kind="bool")


def _linear(value: bool, _: Values) -> Outcome:
    if not value:
        return Outcome("no-effect", why="lora_target_modules decides.")
    return Outcome("converted", {"adapter.target_modules": "all-linear"}, "All linear layers.")


def _targets(value: Any, values: Values) -> Outcome:
    if values.get("lora_target_linear"):
        return Outcome("no-effect", why="lora_target_linear decides.")
    if not isinstance(value, list):
        return Outcome("refused", why="Names of modules are written one by one here.")
    return Outcome("converted", {"adapter.target_modules": ", ".join(value)}, "Names with commas.")


def _attention(name: str) -> Option:
    def read(value: bool, _: Values) -> Outcome:
        if not value:
            return Outcome("no-effect", why=NOTHING_ASKED)
        return Outcome("converted", {"model.attn_implementation": name}, "A choice by name here.")

    return by(read, kind="bool")


def _attention_name(value: str, _: Values) -> Outcome:
    if value == "xformers":
        return Outcome("converted", {"model.attn_implementation": "sdpa"}, "PyTorch has its own.")
    if value not in ATTENTIONS:
        return Outcome("refused", why=f"{value} is not offered here; sdpa is used.")
    return Outcome("renamed", {"model.attn_implementation": value})


def _set_aside(value: float, _: Values) -> Outcome:
    if value >= 1:
        why = f"It is {value:g} rows; here it is a share of the rows. Enter eval_split."
        return Outcome("refused", why=why)
    return Outcome("renamed", {"eval_split": value})


def _floor(value: float, _: Values) -> Outcome:
    if value >= 1:
        why = "A cosine that ends at the full rate is a constant rate."
        return Outcome("converted", {"lr_scheduler_type": "constant_with_warmup"}, why)
    return Outcome("renamed", {"schedule.final_lr_fraction": value})


def _per_epoch(what: str) -> Option:
    return no_effect(f"{what} are every so many steps here; the plan says how many.")


def _template(value: str | None, values: Values) -> Outcome:
    if value == "jinja" and values.get("chat_template_jinja"):
        return Outcome("refused", why="Save the template as a .jinja file and name it.")
    return Outcome("no-effect", why="The model's own chat template is used.")


def _prompt_loss(value: bool, _: Values) -> Outcome:
    loss_on = "all" if value else "assistant"
    return Outcome("converted", {"data.loss_on": loss_on}, "What the loss is computed on.")


def _check(values: Values) -> Iterator[Problem]:
    if values.get("load_in_4bit") and values.get("load_in_8bit"):
        what = "load_in_4bit and load_in_8bit are both on."
        yield Problem("load_in_8bit", what, "Keep one of them.")
    if values.get("bf16") is True and values.get("fp16") is True:
        yield Problem("fp16", "bf16 and fp16 are both on.", "Keep one of them.")
    if values.get("adapter") == "qlora" and values.get("load_in_4bit") is False:
        what = "The adapter qlora needs load_in_4bit, which is off."
        yield Problem("adapter", what, "Switch it on, or choose lora.")
    if values.get("rl") in PREFERENCES and values.get("sample_packing"):
        what = f"Rows of {values['rl']} cannot be packed, and sample_packing is on."
        yield Problem("sample_packing", what, "Switch it off.")
    for name in ("datasets", "test_datasets"):
        for at, entry in enumerate(values.get(name) or []):
            if not isinstance(entry, Mapping) or not entry.get("path"):
                yield Problem(f"{name}[{at}]", "The data set has no path.", "Name its file.")
    if values.get("test_datasets") and values.get("val_set_size"):
        what = "Both test_datasets and val_set_size say which rows are evaluated."
        yield Problem("val_set_size", what, "Keep one of them.")


def _finish(values: Values, _: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"task": "text-generation", "provider": "huggingface"}
    if (values.get("cosine_min_lr_ratio") or 0) >= 1:
        found["lr_scheduler_type"] = "constant_with_warmup"
    is_quantized = values.get("load_in_4bit") or values.get("load_in_8bit")
    if values.get("adapter") == "qlora" and not is_quantized:
        found["use_4bit"] = True
    elif not is_quantized:
        found["quantization.scheme"] = "none"
    if not values.get("val_set_size") and not values.get("test_datasets"):
        found["eval_split"] = 0.0
    if values.get("lora_target_linear") is None and "lora_target_modules" not in values:
        found.setdefault("adapter.target_modules", "all-linear")
    trackers = [name for name in ("wandb", "trackio") if values.get(TRACKER_OPTIONS[name])]
    if trackers:
        found["logging.report_to"] = ", ".join(trackers)
    return found


def _tokenizer(value: str, values: Values) -> Outcome:
    if value == values.get("base_model"):
        return Outcome("no-effect", why="It is the tokenizer of the model.")
    return Outcome("renamed", {"model.tokenizer": value})


ORDER = "Rows are shuffled in every pass, unless curriculum_sampling is on."


def _in_order(value: bool, _: Values) -> Outcome:
    if not value:
        return Outcome("no-effect", why="This value asks for nothing.")
    settings = {"data.shuffle": False, "group_by_length": False}
    return Outcome("converted", settings, "A switch of its own here.")


OPTIONS: dict[str, Option] = {
    **NOT_OFFERED,
    "base_model": renamed("model_name", kind="text"),
    "base_model_config": no_effect("The configuration stands with the model."),
    "tokenizer_config": by(_tokenizer, kind="text"),
    "model_type": no_effect("The type is read from the model."),
    "tokenizer_type": no_effect("The tokenizer of the model is used."),
    "tokenizer_use_fast": no_effect("Tokenizers are always the fast ones."),
    "is_llama_derived_model": no_effect("The type is read from the model."),
    "is_mistral_derived_model": no_effect("The type is read from the model."),
    "is_falcon_derived_model": no_effect("The type is read from the model."),
    "trust_remote_code": refused(CODE, False),
    "revision_of_model": refused("The newest version of a model is used.", None),
    "load_in_8bit": _loaded(8),
    "load_in_4bit": _loaded(4),
    "bnb_config_kwargs": no_effect("4 bits are NF4 with nested quantization."),
    "strict": no_effect("Every option is checked here."),
    "plugins": no_effect(KERNELS),
    "chat_template": by(_template, kind="text"),
    "chat_template_jinja": no_effect("chat_template says what is done with it."),
    "default_system_message": renamed("model.system_prompt"),
    "datasets": datasets("data.sources"),
    "test_datasets": datasets("data.validation_sources"),
    "pretraining_dataset": refused("Name the texts in datasets, with the type completion.", None),
    "val_set_size": by(_set_aside, kind="number"),
    "shuffle_merged_datasets": no_effect(ORDER),
    "shuffle_before_merging_datasets": no_effect(ORDER),
    "curriculum_sampling": by(_in_order, kind="bool"),
    "dataset_exact_deduplication": no_effect("The data checks find rows that occur twice."),
    "dataset_processes": no_effect("Chosen here."),
    "dataset_num_proc": no_effect("Chosen here."),
    "dataset_keep_in_memory": no_effect("Chosen here."),
    "skip_prepare_dataset": no_effect("Data is prepared in seconds."),
    "streaming": no_effect("Files larger than the memory are read in pieces."),
    "rl": by(_preference, kind="text"),
    "rl_beta": renamed("trainer.preference_beta"),
    "dpo_beta": renamed("trainer.preference_beta"),
    "orpo_alpha": renamed("trainer.preference_beta"),
    "adapter": by(_adapter, None),
    "lora_model_dir": renamed("adapter.start_from"),
    "lora_r": taken("lora_r", 8),
    "lora_alpha": taken("lora_alpha", 16),
    "lora_dropout": taken("lora_dropout", 0.0),
    "lora_target_linear": by(_linear, kind="bool"),
    "lora_target_modules": by(_targets, kind="names"),
    "lora_modules_to_save": renamed("adapter.modules_to_save"),
    "peft_use_dora": renamed("adapter.use_dora"),
    "peft_use_rslora": renamed("adapter.use_rslora"),
    "peft": no_effect("The options of PEFT are settings here."),
    "peft_init_lora_weights": no_effect("adapter.init says how the adapter begins."),
    "sequence_len": renamed("max_seq_length", 512),
    "excess_length_strategy": by(
        lambda value, _: Outcome(
            "converted",
            {
                "data.truncation_strategy": {"drop": "delete", "truncate": "right"}.get(
                    value, "right"
                )
            },
            "What becomes of rows that are too long.",
        ),
        kind="text",
    ),
    "sample_packing": renamed("packing", False),
    "pad_to_sequence_len": no_effect("Padding does not change the loss."),
    "pad_to_multiple_of": no_effect("Padding does not change the loss."),
    "eval_sample_packing": no_effect("Evaluation rows are packed as training rows are."),
    "sample_packing_eff_est": no_effect("Rows are packed exactly."),
    "sample_packing_group_size": no_effect("Rows are packed exactly."),
    "sample_packing_bin_size": no_effect("Rows are packed exactly."),
    "multipack_real_batches": no_effect("Rows are packed exactly."),
    "total_num_tokens": no_effect("Tokens are counted here."),
    "max_packed_sequence_len": refused("Enter sequence_len with sample_packing.", None),
    "min_sample_len": no_effect("Rows without an answer are left out."),
    "batch_size": refused("Enter gradient_accumulation_steps and micro_batch_size.", None),
    "eta_min": refused("Enter cosine_min_lr_ratio, a share of the rate.", None),
    "do_causal_lm_eval": no_effect("The page Evaluation scores answers."),
    "remove_unused_columns": no_effect("Only the columns that are trained are read."),
    "torch_compile_mode": by(compile_mode, choices=(*COMPILE_MODES, None)),
    "torch_dtype": no_effect("bf16 and fp16 say the precision."),
    "use_wandb": no_effect("wandb_project says it."),
    "project_name": renamed("logging.project"),
    "tokenizer_use_mistral_common": no_effect("The tokenizer of the model is used."),
    "tokenizer_save_jinja_files": no_effect("The template is stored with the tokenizer."),
    "train_on_inputs": by(_prompt_loss, kind="bool"),
    "group_by_length": taken("group_by_length", False),
    "gradient_accumulation_steps": taken("gradient_accumulation_steps", 1),
    "micro_batch_size": renamed("per_device_train_batch_size", 1),
    "eval_batch_size": renamed("per_device_eval_batch_size"),
    "auto_find_batch_size": renamed("memory.auto_batch_size"),
    "num_epochs": epochs(1),
    "max_steps": taken("max_steps"),
    "optimizer": optimizer("adamw_torch_fused"),
    "optim_args": no_effect("The usual values of the optimizer are kept."),
    "lr_scheduler": schedule("lr_scheduler_type", "cosine"),
    "lr_scheduler_kwargs": by(schedule_arguments, kind="map or text"),
    "cosine_min_lr_ratio": by(_floor, kind="number", least=0),
    "cosine_constant_lr_ratio": refused("This schedule is not offered here.", None),
    "learning_rate": taken("learning_rate"),
    **axolotl_rates(),
    "warmup_ratio": taken("warmup_ratio"),
    "warmup_steps": warmup_steps(),
    "weight_decay": taken("weight_decay", 0.0),
    "adam_beta1": renamed("optimizer.beta1"),
    "adam_beta2": renamed("optimizer.beta2"),
    "adam_epsilon": renamed("optimizer.epsilon"),
    "max_grad_norm": taken("max_grad_norm", 1.0),
    "neftune_noise_alpha": renamed("trainer.neftune_noise_alpha"),
    "bf16": by(bf16),
    "bfloat16": precision("bf16"),
    "fp16": by(lambda value, values: precision("fp16").read(value or None, values)),
    "float16": precision("fp16"),
    "fp8": renamed("quantization.fp8_training", kind="bool"),
    "tf32": no_effect("PyTorch's own choice is kept."),
    "gradient_checkpointing": by(checkpointing, False),
    "gradient_checkpointing_kwargs": by(checkpointing_arguments, kind="map"),
    "activation_offloading": by(offloading),
    "early_stopping_patience": early_stopping(),
    "resume_from_checkpoint": resumed(),
    "auto_resume_from_checkpoints": resumed(),
    "local_rank": no_effect("There is one process."),
    "logging_steps": interval("logging.logging_steps", "logging interval"),
    "flash_attention": _attention("flash_attention_2"),
    "sdp_attention": _attention("sdpa"),
    "eager_attention": _attention("eager"),
    "attn_implementation": by(_attention_name, kind="text"),
    "xformers_attention": _attention("sdpa"),
    "flex_attention": refused("flex attention is not offered here.", False),
    "flash_attn_fuse_mlp": no_effect(KERNELS),
    "flash_attn_fuse_qkv": no_effect(KERNELS),
    "flash_attn_cross_entropy": no_effect(KERNELS),
    "flash_attn_rms_norm": no_effect(KERNELS),
    "evals_per_epoch": _per_epoch("Evaluations"),
    "eval_steps": interval("eval_steps", "evaluation interval"),
    "eval_strategy": no_effect("eval_steps says how often."),
    "eval_table_size": no_effect("The page Samples shows answers over time."),
    "eval_max_new_tokens": no_effect("The page Samples shows answers over time."),
    "eval_causal_lm_metrics": no_effect("The page Evaluation scores answers."),
    "do_bench_eval": no_effect("The page Evaluation scores answers."),
    "saves_per_epoch": _per_epoch("Checkpoints"),
    "save_steps": interval("trainer.save_steps", "saving interval"),
    "save_strategy": training_arguments({})["save_strategy"],
    "save_total_limit": renamed("trainer.save_total_limit"),
    "save_only_model": no_effect("A checkpoint has what a run needs to go on."),
    "save_first_step": no_effect("A run that is ended saves a checkpoint by itself."),
    "save_safetensors": no_effect("Weights are always stored as safetensors."),
    "load_best_model_at_end": renamed("evaluation.keep_best"),
    "torch_compile": renamed("trainer.torch_compile"),
    "debug": no_effect("The log of a run has every detail."),
    "special_tokens": no_effect("The special tokens of the model are used."),
    "tokens": refused("New tokens are not added to a model here.", None),
    "seed": renamed("trainer.seed"),
    "use_tensorboard": by(
        lambda value, _: Outcome(
            "converted", {"logging.report_to": "tensorboard"} if value else {}
        ),
        kind="bool",
    ),
    "wandb_project": renamed("logging.project"),
    "trackio_project_name": renamed("logging.project"),
    "trackio_run_name": renamed("logging.run_name"),
    "trackio_space_id": no_effect("Only local trackers are filled."),
    "wandb_name": renamed("logging.run_name"),
    "wandb_entity": no_effect("The account of this computer is used."),
    "wandb_watch": no_effect("Losses and rates are sent."),
    "wandb_run_id": no_effect("A run has its own id."),
    "wandb_log_model": no_effect("Models stay on this computer."),
    "wandb_mode": renamed("logging.wandb_mode"),
    "mlflow_tracking_uri": no_effect("Set MLFLOW_TRACKING_URI in the environment."),
    "mlflow_experiment_name": renamed("logging.experiment"),
    "rope_scaling": rope_scaling(),
    "dataloader_num_workers": renamed("data.num_workers"),
    "dataloader_pin_memory": no_effect("Chosen here."),
    "dataloader_prefetch_factor": no_effect("Chosen here."),
    "low_cpu_mem_usage": no_effect("Models are loaded in pieces."),
    "device_map": no_effect("The model is loaded onto one device."),
    "max_memory": no_effect("The model is loaded onto one device."),
}
SYSTEM = System(
    name="axolotl",
    title="Axolotl",
    options=OPTIONS,
    check=_check,
    finish=_finish,
    programs=("axolotl",),
)
