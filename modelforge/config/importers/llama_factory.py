"""LLaMA-Factory: its YAML and JSON files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.importers.llama_factory_data import datasets, read_dataset_info
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
)
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.shared.gpus import by_hand
from modelforge.config.importers.shared.optimizers import loraplus, use_muon
from modelforge.config.importers.shared.results import early_stopping
from modelforge.config.importers.system import System
from modelforge.config.importers.training_arguments import training_arguments
from modelforge.errors import Problem

CODE = "It would run code from the model's repository. Models here work without it."
ANSWERS = "It concerns answers, not training; the Chat page has it."
IMAGES = "Images, sound and video are not trained here."
VARIANT = "This way of training is not offered here."
DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "num_train_epochs": 3,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "linear",
    "optim": "adamw_torch",
    "weight_decay": 0.0,
    "gradient_accumulation_steps": 1,
    "max_grad_norm": 1.0,
    "logging_steps": 500,
    "save_steps": 500,
    "seed": 42,
    "warmup_steps": 0,
    "train_sampling_strategy": "random",
}
METHODS = {"pt": "sft", "sft": "sft", "dpo": "dpo", "kto": "rlhf"}
# Preference losses whose names differ.
LOSSES = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo", "kto_pair": "kto", "orpo": "orpo"}


def _stage(value: str, values: Values) -> Outcome:
    if value in ("rm", "ppo"):
        why = "Choose the method RLHF, which trains the reward model and the answers together."
        return Outcome("refused", why=why)
    if value == "kto":
        settings = {"strategy": "dpo", "trainer.preference_loss": "kto"}
        return Outcome("converted", settings, "KTO is a preference loss here.")
    strategy = METHODS[value]
    if strategy == "sft" and values.get("quantization_bit"):
        strategy = "qlora"
    if value == "pt":
        settings = {"strategy": strategy, "data.loss_on": "all"}
        return Outcome("converted", settings, "Training on whole texts.")
    return Outcome("renamed" if strategy == value else "converted", {"strategy": strategy})


def _finetuning(value: str, _: Values) -> Outcome:
    if value == "lora":
        return Outcome("renamed", {"adapter.enabled": True})
    if value == "full":
        settings = {"adapter.enabled": False, "quantization.scheme": "none"}
        return Outcome("converted", settings, "Every weight is trained.")
    why = f"{value} is not offered here; choose lora or full."
    return Outcome("refused", why=why)


def _bits(value: int | None, values: Values) -> Outcome:
    if value is None:
        return Outcome("no-effect", why="This value asks for nothing.")
    if values.get("quantization_method") not in (None, "bnb", "bitsandbytes"):
        why = f"Quantization is by bitsandbytes here, not {values['quantization_method']}."
        return Outcome("refused", why=why)
    if value == 4:
        settings = {"use_4bit": True, "bnb_4bit_quant_type": "nf4"}
        return Outcome("converted", settings, "4 bits are NF4 of bitsandbytes.")
    return Outcome("renamed", {"use_8bit": True})


def _alpha(value: int | None, values: Values) -> Outcome:
    if value is None:
        alpha = 2 * int(values["lora_rank"])
        return Outcome("converted", {"lora_alpha": alpha}, "Twice the rank, where it is left out.")
    return Outcome("taken", {"lora_alpha": value})


def _targets(value: Any, _: Values) -> Outcome:
    names = value.split(",") if isinstance(value, str) else list(value)
    names = [name.strip() for name in names]
    if names == ["all"]:
        why = "The same layers under their name here."
        return Outcome("converted", {"adapter.target_modules": "all-linear"}, why)
    return Outcome("converted", {"adapter.target_modules": ", ".join(names)}, "Names with commas.")


def _disable_checkpointing(value: bool, _: Values) -> Outcome:
    why = "Here the setting says what is on, not what is off."
    return Outcome("converted", {"gradient_checkpointing": not value}, why)


def _attention(value: str, _: Values) -> Outcome:
    known = {"fa2": "flash_attention_2", "sdpa": "sdpa", "disabled": "eager", "auto": "sdpa"}
    if value not in known:
        return Outcome("refused", why=f"{value} is not an attention here.")
    settings = {"model.attn_implementation": known[value]}
    return Outcome("renamed" if known[value] == value else "converted", settings)


def _pure(name: str) -> Option:
    def read(value: bool, values: Values) -> Outcome:
        if not value:
            return Outcome("no-effect", why="This value asks for nothing.")
        settings = {"hardware.precision": name}
        if values.get("finetuning_type") == "full":
            settings |= trained_dtype("bfloat16")
        return Outcome("converted", settings, "The weights have it too.")

    return by(read, kind="bool")


def _unsloth(value: bool, _: Values) -> Outcome:
    provider = "unsloth" if value else "huggingface"
    return Outcome("converted", {"provider": provider}, "A choice of the provider here.")


def _packing(value: bool | None, values: Values) -> Outcome:
    if value is None:
        value = values.get("stage") == "pt"
    return Outcome("taken", {"packing": value})


def _loss_of_prompt(value: bool, values: Values) -> Outcome:
    if value:
        return Outcome("converted", {"data.loss_on": "all"}, "The prompt is trained too.")
    loss_on = "last_round" if values.get("mask_history") else "assistant"
    return Outcome("converted", {"data.loss_on": loss_on}, "Only answers are trained.")


def _neat_packing(value: bool, _: Values) -> Outcome:
    if not value:
        return Outcome("no-effect", why="This value asks for nothing.")
    return Outcome("converted", {"packing": True}, "Packed rows never see each other here.")


def _mask_history(value: bool, _: Values) -> Outcome:
    if not value:
        return Outcome("no-effect", why="This value asks for nothing.")
    settings = {"data.loss_on": "last_round"}
    return Outcome("converted", settings, "Only the last answer is trained.")


def _evaluated(value: Any, _: Values) -> Outcome:
    return Outcome("renamed", {"eval_split": float(value)})


def _check(values: Values) -> Iterator[Problem]:
    if values.get("finetuning_type") == "full" and values.get("quantization_bit"):
        what = "quantization_bit needs an adapter, and finetuning_type is full."
        yield Problem("quantization_bit", what, "Leave it out, or choose lora.")
    if values.get("eval_dataset") and values.get("val_size"):
        what = "Both eval_dataset and val_size say which rows are evaluated."
        yield Problem("val_size", what, "Keep one of them.")
    if values.get("bf16") and values.get("fp16"):
        yield Problem("fp16", "bf16 and fp16 are both on.", "Keep one of them.")
    size = values.get("val_size")
    if isinstance(size, (int, float)) and size > 1:
        what = f"It is {size:g} rows; here it is a share of the rows."
        yield Problem("val_size", what, "Give a share below 1, such as 0.1.")


def _finish(values: Values, settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"task": "text-generation"}
    found["provider"] = settings.get("provider", "huggingface")
    if not values.get("quantization_bit"):
        found["quantization.scheme"] = "none"
    if not values.get("val_size") and not values.get("eval_dataset"):
        found["eval_split"] = 0.0
    return found


_VARIANTS = (
    *("use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_llama_pro"),
    *("freeze_trainable_layers", "freeze_trainable_modules", "freeze_extra_modules"),
    *("use_dft_loss", "use_asft_loss", "use_eaft_loss", "mixture_of_depths", "shift_attn"),
    *("oft_rank", "oft_block_size", "oft_target", "module_dropout", "pissa_convert"),
    *("additional_target", "create_new_adapter", "add_tokens", "add_special_tokens"),
    *("new_special_tokens_config", "init_special_tokens", "resize_vocab", "use_kt", "kt_mode"),
    *("ref_model", "ref_model_adapters", "reward_model", "reward_model_type"),
    *("pref_bco_weight", "dpo_label_smoothing", "kto_chosen_weight", "kto_rejected_weight"),
    *("simpo_gamma", "ld_alpha", "ppo_epochs", "ppo_buffer_size", "ppo_target"),
    *("fp8_enable_fsdp_float8_all_gather", "pref_ftx"),
    *("asft_alpha", "apollo_layerwise", "apollo_target", "apollo_rank", "apollo_scale"),
    *("apollo_scale_type", "apollo_update_interval", "apollo_proj", "galore_layerwise"),
    *("galore_target", "galore_rank", "galore_scale", "galore_update_interval", "badam_mode"),
    *("badam_layer", "badam_start_block", "badam_switch_mode", "badam_switch_interval"),
    *("badam_update_ratio", "badam_mask_mode", "badam_verbose", "kt_cpu_activation"),
    *("kt_config", "kt_weight_path", "kt_non_expert_weight_path", "kt_optimize_rule"),
    *("reward_model_adapters", "ref_model_quantization_bit", "ppo_score_norm"),
    *("reward_model_quantization_bit", "ppo_whiten_rewards", "num_layer_trainable"),
    *("pref_bco_weight", "moe_aux_loss_coef", "use_mca"),
)
_SEVERAL = (
    *("sequence_parallel_size", "sequence_parallel", "context_parallel_size"),
    *("tensor_model_parallel_size", "pipeline_model_parallel_size", "overlap_param_gather"),
    *("expert_model_parallel_size", "use_distributed_optimizer", "overlap_grad_reduce"),
    *("fsdp_transformer_layer_cls_to_wrap", "fsdp_min_num_params"),
)
_MEDIA = (
    *("image_max_pixels", "image_min_pixels", "video_max_pixels", "video_min_pixels"),
    *("video_fps", "video_maxlen", "audio_sampling_rate", "freeze_vision_tower"),
    *("freeze_multi_modal_projector", "freeze_language_model", "media_dir", "crop_to_patches"),
)
OPTIONS: dict[str, Option] = {
    **training_arguments(DEFAULTS),
    **{name: refused(VARIANT, False) for name in _VARIANTS},
    **{name: refused(IMAGES, False) for name in _MEDIA},
    **{name: by_hand(1) for name in _SEVERAL},
    "use_muon": use_muon(),
    "fp8": renamed("quantization.fp8_training", kind="bool"),
    "fp8_backend": no_effect("torchao multiplies in FP8 here."),
    **loraplus(),
    "disable_shuffling": converted(
        "data.shuffle", lambda value: not value, "The switch says the opposite.", kind="bool"
    ),
    "model_name_or_path": renamed("model_name", kind="text"),
    "adapter_name_or_path": renamed("adapter.start_from"),
    "model_revision": refused("The newest version of a model is used.", "main"),
    "trust_remote_code": refused(CODE, False),
    "quantization_bit": by(_bits, choices=(4, 8, None)),
    "quantization_method": no_effect("quantization_bit says what is done."),
    "quantization_type": taken("bnb_4bit_quant_type"),
    "double_quantization": renamed("use_nested_quant", True),
    "quantization_device_map": no_effect("The model is loaded onto one device."),
    "rope_scaling": rope_scaling("cutoff_len"),
    "flash_attn": by(_attention, kind="text"),
    "use_unsloth": by(_unsloth, kind="bool"),
    "use_unsloth_gc": no_effect("Unsloth, as the provider, has its own."),
    "enable_liger_kernel": no_effect("TRL computes the loss in chunks here."),
    "use_v1_kernels": no_effect("Kernels are chosen here."),
    "disable_gradient_checkpointing": by(_disable_checkpointing, False, kind="bool"),
    "use_reentrant_gc": no_effect("The form without reentrance is always used."),
    "upcast_layernorm": no_effect("Norms of quantized models are float32."),
    "upcast_lmhead_output": no_effect("The loss is computed in float32."),
    "low_cpu_mem_usage": no_effect("Models are loaded in pieces."),
    "use_fast_tokenizer": no_effect("Tokenizers are always the fast ones."),
    "split_special_tokens": no_effect("Special tokens in rows are text here."),
    "cache_dir": no_effect("The cache of Hugging Face is used."),
    "hf_hub_token": no_effect("A token in a file is not read. Run `hf auth login`."),
    "print_param_status": no_effect("The log of a run has every detail."),
    "stage": by(_stage, "sft", choices=("pt", "sft", "rm", "ppo", "dpo", "kto")),
    "finetuning_type": by(_finetuning, "lora", kind="text"),
    "lora_rank": renamed("lora_r", 8, kind="int", least=1),
    "lora_alpha": by(_alpha, None),
    "lora_dropout": taken("lora_dropout", 0.0),
    "lora_target": by(_targets, "all", kind="names"),
    "use_rslora": renamed("adapter.use_rslora"),
    "use_dora": renamed("adapter.use_dora"),
    "pissa_init": by(
        lambda value, _: Outcome("converted", {"adapter.init": "pissa"} if value else {}),
        kind="bool",
    ),
    "pissa_iter": no_effect("The decomposition is exact here."),
    "pref_beta": renamed("trainer.preference_beta"),
    "pref_loss": by(
        lambda value, _: (
            Outcome("renamed", {"trainer.preference_loss": LOSSES[value]})
            if value in LOSSES
            else Outcome("refused", why=f"The preference loss {value} is not offered here.")
        ),
        kind="text",
    ),
    "pure_bf16": _pure("bf16"),
    "plot_loss": no_effect("The curve is always drawn."),
    "compute_accuracy": no_effect("The share of right tokens is always measured."),
    "include_effective_tokens_per_second": no_effect("Tokens per second are always shown."),
    "include_mfu": no_effect("Tokens per second are always shown."),
    "early_stopping_steps": early_stopping(),
    "dataset": datasets("data.sources"),
    "eval_dataset": datasets("data.validation_sources"),
    "dataset_dir": no_effect("Each data source has a path."),
    "template": no_effect("The model's own chat template is used."),
    "enable_thinking": no_effect("The template of the model decides."),
    "default_system": renamed("model.system_prompt"),
    "cutoff_len": renamed("max_seq_length", 2048),
    "train_on_prompt": by(_loss_of_prompt, kind="bool"),
    "max_samples": no_effect("It stands in each data source."),
    "streaming": no_effect("Files larger than the memory are read in pieces."),
    "buffer_size": no_effect("Files larger than the memory are read in pieces."),
    "mix_strategy": no_effect("Each source has a weight here."),
    "interleave_probs": no_effect("Each source has a weight here."),
    "overwrite_cache": no_effect("Data is read again when the file has changed."),
    "preprocessing_batch_size": no_effect("Chosen here."),
    "preprocessing_num_workers": no_effect("Chosen here."),
    "tokenized_path": no_effect("Tokens are counted anew, which takes seconds."),
    "data_shared_file_system": no_effect("There is one computer."),
    "val_size": by(_evaluated, kind="number"),
    "eval_on_each_dataset": no_effect("The evaluation rows are one set."),
    "packing": by(_packing, None),
    "neat_packing": by(_neat_packing, kind="bool"),
    "mask_history": by(_mask_history, kind="bool"),
    "tool_format": no_effect("The template of the model decides."),
    "ignore_pad_token_for_loss": no_effect("Padding is never trained."),
    "predict_with_generate": no_effect(ANSWERS),
    **{
        name: no_effect(ANSWERS)
        for name in (
            *("max_new_tokens", "max_length", "temperature", "top_p", "top_k", "do_sample"),
            *("repetition_penalty", "length_penalty", "num_beams", "skip_special_tokens"),
            *("infer_backend", "infer_dtype", "vllm_maxlen", "vllm_enforce_eager"),
            *("vllm_gpu_util", "vllm_config", "sglang_config", "sglang_maxlen"),
        )
    },
    **{
        name: no_effect("The Export page writes the model.")
        for name in (
            *("export_dir", "export_size", "export_device", "export_legacy_format"),
            *("export_quantization_bit", "export_quantization_dataset", "export_hub_model_id"),
        )
    },
    "swanlab_project": no_effect("Trackers are TensorBoard, trackio, W&B, MLflow and Aim."),
    "use_swanlab": no_effect("Trackers are TensorBoard, trackio, W&B, MLflow and Aim."),
    "swanlab_run_name": no_effect("Trackers are TensorBoard, trackio, W&B, MLflow and Aim."),
    **{
        name: no_effect("Add the Ray cluster as a target: modelforge targets add.")
        for name in (
            *("ray_run_name", "ray_storage_path", "ray_num_workers"),
            *("placement_strategy", "resources_per_worker"),
        )
    },
}
SYSTEM = System(
    name="llama-factory",
    title="LLaMA-Factory",
    options=OPTIONS,
    check=_check,
    finish=_finish,
    programs=("llamafactory-cli", "lmf "),
    beside=read_dataset_info,
)
