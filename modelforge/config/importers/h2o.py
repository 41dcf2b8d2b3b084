"""H2O LLM Studio: the YAML files of its experiments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelforge.config.importers.options import (
    Option,
    Values,
    by,
    no_effect,
    refused,
    renamed,
    taken,
)
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.shared.gpus import batches_of_all, by_hand, several
from modelforge.config.importers.shared.optimizers import rate_of_layers
from modelforge.config.importers.system import System
from modelforge.config.importers.training_arguments import epochs
from modelforge.errors import Problem

A, D, E, T, K = "architecture.", "dataset.", "environment.", "training.", "tokenizer."
CODE = "It would run code from the model's repository. Models here work without it."
TEMPLATE = "The model's chat template writes the marks around questions and answers."
ANSWERS = "It concerns answers, not training; the Chat page has it."
VARIANT = "This way of training is not offered here."
# How its files write "nothing".
NOTHING = (None, "None", "")
TYPES = {
    "text_causal_language_modeling": ("text-generation", "sft"),
    "text_dpo_modeling": ("text-generation", "dpo"),
    "text_sequence_to_sequence_modeling": ("text-generation", "sft"),
}
DTYPES = {
    "int4": ("bnb-4bit", "auto"),
    "int8": ("bnb-8bit", "auto"),
    "float16": ("none", "auto"),
    "bfloat16": ("none", "bf16"),
    "float32": ("none", "auto"),
}
OPTIMIZERS = {"AdamW": "adamw_torch", "AdamW8bit": "adamw_8bit", "SGD": "sgd"}
SCHEDULES = {"Cosine": "cosine", "Linear": "linear", "Constant": "constant_with_warmup"}
LOSSES = {
    "DPOLoss": "sigmoid",
    "HingeLoss": "hinge",
    "IPOLoss": "ipo",
    "KTOPairLoss": "kto",
}


def _problem_type(value: str, values: Values) -> Outcome:
    if value not in TYPES:
        why = f"{value} is not offered here: answers are texts."
        return Outcome("refused", why=why)
    task, strategy = TYPES[value]
    is_quantized = values.get(f"{A}backbone_dtype") in ("int4", "int8")
    if strategy == "sft" and is_quantized and values.get(f"{T}lora"):
        strategy = "qlora"
    return Outcome("converted", {"task": task, "strategy": strategy}, "Task and method.")


def _dtype(value: str, _: Values) -> Outcome:
    scheme, precision = DTYPES[value]
    settings: dict[str, Any] = {"quantization.scheme": scheme}
    if precision != "auto":
        settings["hardware.precision"] = precision
    return Outcome("converted", settings, "How the weights are kept.")


def _column(setting: str) -> Option:
    def read(value: Any, _: Values) -> Outcome:
        name = value[0] if isinstance(value, list) and value else value
        if name in NOTHING:
            return Outcome("no-effect", why="It names no column.")
        return Outcome("converted", why=f"The column {name} of the data source: {setting}.")

    return by(read)


def _source(values: Values, path: Any) -> dict[str, Any]:
    """Return the data source of a file, with the columns that the options name."""
    source: dict[str, Any] = {"path": path}
    columns = (
        ("prompt_column", "instruction_field"),
        ("answer_column", "output_field"),
        ("rejected_answer_column", "rejected_field"),
        ("parent_id_column", "parent_field"),
        ("id_column", "id_field"),
    )
    for option, field in columns:
        value = values.get(f"{D}{option}")
        name = value[0] if isinstance(value, list) and value else value
        if name not in NOTHING:
            source[field] = name
    if "rejected_field" in source:
        source["prompt_field"] = source.pop("instruction_field", "prompt")
        source["chosen_field"] = source.pop("output_field", "chosen")
    system = values.get(f"{D}system_column")
    if system not in NOTHING and "rejected_field" not in source:
        source |= {"system_prompt_type": "field", "system_prompt_field": system}
    return source


def _train(value: Any, values: Values) -> Outcome:
    if value in NOTHING:
        return Outcome("no-effect", why="It names no data.")
    settings = {"dataset": value, "data.sources": [_source(values, value)]}
    return Outcome("converted", settings, "A data source with its columns.")


def _validation(value: Any, values: Values) -> Outcome:
    if value in NOTHING:
        return Outcome("no-effect", why="Rows are set aside.")
    settings = {"data.validation_sources": [_source(values, value)]}
    return Outcome("converted", settings, "The source of the evaluation rows.")


def _share(value: float, values: Values) -> Outcome:
    if values.get(f"{D}validation_dataframe") not in NOTHING:
        return Outcome("no-effect", why="validation_dataframe decides.")
    return Outcome("renamed", {"eval_split": value})


def _masked(value: bool, _: Values) -> Outcome:
    loss_on = "assistant" if value else "all"
    return Outcome("converted", {"data.loss_on": loss_on}, "What the loss is computed on.")


def _targets(value: Any, _: Values) -> Outcome:
    names = value.split(",") if isinstance(value, str) else list(value or [])
    names = [name.strip() for name in names if name.strip()]
    if not names:
        why = "Without names, all linear layers are adapted."
        return Outcome("converted", {"adapter.target_modules": "all-linear"}, why)
    return Outcome("renamed", {"adapter.target_modules": ", ".join(names)})


def _chosen(setting: str, known: Mapping[str, str], default: str, what: str) -> Option:
    def read(value: str, _: Values) -> Outcome:
        if value not in known:
            return Outcome("refused", why=f"{value} is not {what} here.")
        return Outcome("converted", {setting: known[value]}, "Its name here.")

    return by(read, default, kind="text")


def _loss(value: str, _: Values) -> Outcome:
    if value in LOSSES:
        return Outcome("converted", {"trainer.preference_loss": LOSSES[value]}, "Its name here.")
    if "CrossEntropy" in value and "Binary" not in value:
        return Outcome("no-effect", why="The mean over tokens is used.")
    return Outcome("refused", why=f"{value} is not a loss here.")


def _seed(value: int, _: Values) -> Outcome:
    if value < 0:
        return Outcome("no-effect", why="-1 is a random seed; here every run has a fixed one.")
    return Outcome("renamed", {"trainer.seed": value})


def _warmup(value: float, values: Values) -> Outcome:
    if not value:
        return Outcome("converted", {"warmup_ratio": 0.0}, "No warm-up.")
    epochs = values.get(f"{T}epochs") or 1
    ratio = round(min(1.0, value / epochs), 6)
    return Outcome("converted", {"warmup_ratio": ratio}, f"A share of {epochs} epochs.")


def _gpus(value: Any, _: Values) -> Outcome:
    names = [name for name in value or [] if name not in NOTHING]
    if not all(str(name).isdigit() for name in names):
        return Outcome("refused", why="A GPU is a number here, counted from 0.")
    if not names:
        return Outcome("no-effect", why="The device is chosen.")
    numbers = sorted(int(name) for name in names)
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return Outcome("refused", why="Several GPUs are those that follow each other here.")
    settings = {"hardware.gpu_index": numbers[0], **several(len(numbers))}
    return Outcome("converted", settings, "The GPUs by the number of the first one.")


def _logger(value: Any, _: Values) -> Outcome:
    if value in NOTHING:
        return Outcome("converted", {"logging.report_to": ""}, "No tracker.")
    if str(value).lower() in ("w&b", "wandb"):
        return Outcome("converted", {"logging.report_to": "wandb"}, "Its name here.")
    return Outcome("refused", why=f"{value} is not a tracker here.")


def _mixed(value: bool, values: Values) -> Outcome:
    if values.get(f"{A}backbone_dtype") == "bfloat16":
        return Outcome("no-effect", why="backbone_dtype decides.")
    precision = "auto" if value else "fp32"
    return Outcome("converted", {"hardware.precision": precision}, "The best of this computer.")


def _check(values: Values) -> Iterator[Problem]:
    if values.get(f"{T}lora") is False and values.get(f"{A}backbone_dtype") in ("int4", "int8"):
        what = f"{values[f'{A}backbone_dtype']} weights need lora, which is off."
        yield Problem(f"{A}backbone_dtype", what, "Switch lora on, or choose bfloat16.")


def _finish(_: Values, settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"provider": "huggingface", "group_by_length": False}
    if "task" not in settings:
        found["task"] = "text-generation"
    return found


OPTIONS: dict[str, Option] = {
    "llm_backbone": renamed("model_name", kind="text"),
    "experiment_name": renamed("logging.run_name"),
    "output_directory": no_effect("Runs are stored in the folder of ModelForge."),
    "problem_type": by(_problem_type, "text_causal_language_modeling", kind="text"),
    f"{A}backbone_dtype": by(_dtype, "int4", choices=tuple(DTYPES)),
    f"{A}gradient_checkpointing": taken("gradient_checkpointing", True),
    f"{A}force_embedding_gradients": no_effect("adapter.modules_to_save names such modules."),
    f"{A}intermediate_dropout": refused(VARIANT, 0.0),
    f"{A}pretrained": no_effect("A model is trained on from its weights."),
    f"{A}pretrained_weights": refused("Name a finished adapter in adapter.start_from.", ""),
    **{
        f"augmentation.{name}": refused("Rows are not changed by chance here.", 0.0)
        for name in (
            "random_parent_probability",
            "skip_parent_probability",
            "token_mask_probability",
            "neftune_noise_alpha",
        )
    },
    f"{D}train_dataframe": by(_train),
    f"{D}validation_dataframe": by(_validation),
    f"{D}validation_size": by(_share, 0.01, kind="number"),
    f"{D}validation_strategy": no_effect("Rows are set aside, or a file is named."),
    f"{D}prompt_column": _column("instruction_field"),
    f"{D}answer_column": _column("output_field"),
    f"{D}rejected_answer_column": _column("rejected_field"),
    f"{D}rejected_prompt_column": _column("prompt_field"),
    f"{D}system_column": _column("system_prompt_field"),
    f"{D}parent_id_column": _column("parent_field"),
    f"{D}id_column": _column("id_field"),
    f"{D}data_sample": by(
        lambda value, _: (
            Outcome("no-effect", why="All rows are used.")
            if value == 1
            else Outcome("refused", why="Give a number of rows in the data source: samples.")
        ),
        kind="number",
    ),
    f"{D}data_sample_choice": no_effect("It belongs to data_sample."),
    f"{D}mask_prompt_labels": by(_masked, True, kind="bool"),
    f"{D}only_last_answer": by(
        lambda value, _: Outcome("converted", {"data.loss_on": "last_round"} if value else {}),
        kind="bool",
    ),
    f"{D}limit_chained_samples": no_effect("Each conversation is one row."),
    f"{D}personalize": refused("Names are not put into answers here.", False),
    f"{D}num_classes": no_effect("Answers are texts."),
    **{
        f"{D}{name}": no_effect(TEMPLATE)
        for name in (
            "add_eos_token_to_answer",
            "add_eos_token_to_prompt",
            "chatbot_name",
            "add_eos_token_to_system",
            "text_answer_separator",
            "text_prompt_start",
            "text_system_start",
            "chatbot_author",
        )
    },
    f"{E}compile_model": renamed("trainer.torch_compile"),
    f"{E}find_unused_parameters": no_effect("There is one process."),
    f"{E}gpus": by(_gpus, kind="list"),
    f"{E}huggingface_branch": refused("The newest version of a model is used.", "main"),
    f"{E}mixed_precision": by(_mixed, kind="bool"),
    f"{E}mixed_precision_dtype": no_effect("mixed_precision says what is done."),
    f"{E}number_of_workers": renamed("data.num_workers"),
    f"{E}seed": by(_seed, kind="int"),
    f"{E}trust_remote_code": refused(CODE, False),
    **{
        f"{E}{name}": by_hand(False)
        for name in (
            "use_deepspeed",
            "deepspeed_method",
            "deepspeed_allgather_bucket_size",
            "deepspeed_reduce_bucket_size",
            "deepspeed_stage3_prefetch_bucket_size",
            "deepspeed_stage3_param_persistence_threshold",
        )
    },
    "logging.logger": by(_logger),
    "logging.neptune_project": no_effect("neptune is not a tracker here."),
    "logging.wandb_project": renamed("logging.project"),
    "logging.wandb_entity": no_effect("The account of this computer is used."),
    "logging.log_step_size": no_effect("Every step is logged."),
    "logging.log_all_ranks": no_effect("There is one process."),
    **{
        f"prediction.{name}": no_effect(ANSWERS)
        for name in (
            "batch_size_inference",
            "do_sample",
            "max_length_inference",
            "max_time",
            "metric",
            "metric_gpt_model",
            "metric_gpt_template",
            "min_length_inference",
            "num_beams",
            "num_history",
            "repetition_penalty",
            "stop_tokens",
            "temperature",
            "top_k",
            "top_p",
        )
    },
    f"{K}max_length": renamed("max_seq_length", 512),
    f"{K}max_length_answer": no_effect("The row as a whole has a length."),
    f"{K}max_length_prompt": no_effect("The row as a whole has a length."),
    f"{K}add_prompt_answer_tokens": refused("New tokens are not added to a model here.", False),
    f"{K}padding_quantile": no_effect("Rows are padded to the longest of their batch."),
    f"{K}tokenizer_kwargs": no_effect("The tokenizer of the model is used."),
    f"{K}use_fast": no_effect("Tokenizers are always the fast ones."),
    f"{T}batch_size": renamed("per_device_train_batch_size", 2),
    f"{T}grad_accumulation": by(batches_of_all(f"{T}grad_accumulation", f"{E}gpus"), 1),
    f"{T}epochs": epochs(1),
    f"{T}learning_rate": taken("learning_rate", 1e-4),
    f"{T}gradient_clip": renamed("max_grad_norm", 0.0),
    f"{T}weight_decay": taken("weight_decay", 0.0),
    f"{T}warmup_epochs": by(_warmup, 0.0, kind="number"),
    f"{T}optimizer": _chosen("optim", OPTIMIZERS, "AdamW", "an optimizer"),
    f"{T}schedule": _chosen("lr_scheduler_type", SCHEDULES, "Cosine", "a schedule"),
    f"{T}min_learning_rate_ratio": renamed("schedule.final_lr_fraction"),
    f"{T}loss_function": by(_loss, kind="text"),
    f"{T}beta": renamed("trainer.preference_beta"),
    f"{T}simpo_gamma": refused(VARIANT, None),
    f"{T}lora": renamed("adapter.enabled", True),
    f"{T}lora_r": taken("lora_r", 4),
    f"{T}lora_alpha": taken("lora_alpha", 16),
    f"{T}lora_dropout": taken("lora_dropout", 0.05),
    f"{T}lora_target_modules": by(_targets, "", kind="names"),
    f"{T}lora_unfreeze_layers": refused(VARIANT, []),
    f"{T}use_dora": renamed("adapter.use_dora"),
    f"{T}use_rslora": renamed("adapter.use_rslora"),
    **rate_of_layers(T),
    f"{T}freeze_layers": refused(VARIANT, []),
    f"{T}attention_implementation": by(
        lambda value, _: (
            Outcome("no-effect", why="sdpa is used.")
            if value == "auto"
            else Outcome("renamed", {"model.attn_implementation": value})
        ),
        kind="text",
    ),
    f"{T}drop_last_batch": no_effect("The last rows are trained too."),
    f"{T}evaluate_before_training": no_effect("The base model is measured on the page Evaluation."),
    f"{T}evaluation_epochs": no_effect("Evaluations are every so many steps here."),
    f"{T}save_checkpoint": by(
        lambda value, _: Outcome(
            "converted", {"evaluation.keep_best": value == "best"}, "Which model is kept."
        ),
        kind="text",
    ),
    f"{T}train_validation_data": refused("Evaluation rows are never trained on.", False),
}
SYSTEM = System(
    name="h2o",
    title="H2O LLM Studio",
    options=OPTIONS,
    groups=frozenset(
        ("architecture", "augmentation", "dataset", "environment", "logging", "prediction")
    )
    | frozenset(("tokenizer", "training")),
    check=_check,
    finish=_finish,
)
