"""Unsloth Studio: the YAML and JSON files of its trainings."""

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
from modelforge.config.importers.report import Outcome, Result
from modelforge.config.importers.shared.optimizers import rate_of_tables
from modelforge.config.importers.system import System
from modelforge.config.importers.training_arguments import epochs, optimizer, schedule
from modelforge.errors import Problem

T, L, D, G = "training.", "lora.", "data.", "logging."
IMAGES = "Images are not trained here."
ANSWERS = "It concerns answers, not training; the Chat page has it."
TRACKERS = (("enable_wandb", "wandb"), ("enable_tensorboard", "tensorboard"))


def _kind(value: str, values: Values) -> Outcome:
    if value == "full":
        settings = {"adapter.enabled": False, "strategy": "sft", "quantization.scheme": "none"}
        return Outcome("converted", settings, "Every weight is trained.")
    if value in ("continued-pretraining", "cpt"):
        settings = {"adapter.enabled": True, "strategy": "sft", "data.loss_on": "all"}
        return Outcome("converted", settings, "Training on whole texts.")
    is_quantized = bool(values.get(f"{T}load_in_4bit"))
    settings = {"adapter.enabled": True, "strategy": "qlora" if is_quantized else "sft"}
    return Outcome("converted", settings, "An adapter.")


def _bits(value: bool, values: Values) -> Outcome:
    if values.get(f"{T}training_type") == "full" or not value:
        return Outcome("converted", {"quantization.scheme": "none"}, "Weights are not quantized.")
    return Outcome("renamed", {"use_4bit": True})


def _steps(setting: str) -> Option:
    def read(value: int, _: Values) -> Outcome:
        if value == 0:
            return Outcome("no-effect", why="0 asks for nothing.")
        return Outcome("renamed" if "." in setting else "taken", {setting: value})

    return by(read, kind="int", least=0)


def _epochs(value: float, values: Values) -> Outcome:
    if value == 0:
        return Outcome("no-effect", why="0 leaves it to max_steps.")
    return epochs().read(value, values)


def _checkpointing(value: Any, _: Values) -> Outcome:
    is_on = value not in (False, None, "none", "false", "False")
    result: Result = "taken" if isinstance(value, bool) else "converted"
    return Outcome(result, {"gradient_checkpointing": is_on}, "" if result == "taken" else "On.")


def _targets(value: Any, _: Values) -> Outcome:
    names = value.split(",") if isinstance(value, str) else list(value)
    names = [name.strip() for name in names if name.strip()]
    if not names:
        return Outcome("no-effect", why="It names no modules.")
    if names == ["all-linear"]:
        return Outcome("taken", {"adapter.target_modules": "all-linear"})
    return Outcome("converted", {"adapter.target_modules": ", ".join(names)}, "Names with commas.")


def _completions(value: bool, _: Values) -> Outcome:
    loss_on = "assistant" if value else "all"
    return Outcome("converted", {"data.loss_on": loss_on}, "What the loss is computed on.")


def _format(value: str, _: Values) -> Outcome:
    if value in ("auto", "custom"):
        return Outcome("no-effect", why="Rows are recognised by their columns.")
    known = {"alpaca": "instruction", "chatml": "conversation", "sharegpt": "conversation"}
    return Outcome("no-effect", why=f"Rows are recognised; {known.get(value, value)} is expected.")


def _tracker(name: str) -> Option:
    def read(value: bool, _: Values) -> Outcome:
        if not value:
            return Outcome("no-effect", why="This value asks for nothing.")
        return Outcome("converted", {"logging.report_to": name}, "Trackers are named here.")

    return by(read, kind="bool")


def _check(values: Values) -> Iterator[Problem]:
    if values.get(f"{T}num_epochs") == 0 and not values.get(f"{T}max_steps"):
        what = "Neither num_epochs nor max_steps gives the length of the training."
        yield Problem(f"{T}num_epochs", what, "Give one of them.")


def _finish(values: Values, settings: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for option, name in TRACKERS if values.get(f"{G}{option}")]
    return {
        "task": "text-generation",
        "provider": "unsloth",
        "group_by_length": False,
        "eval_split": settings.get("eval_split", 0.0),
        "logging.report_to": ", ".join(names),
    }


OPTIONS: dict[str, Option] = {
    "model": renamed("model_name", kind="text"),
    f"{D}dataset": taken("dataset", kind="text"),
    f"{D}local_dataset": by(
        lambda value, _: Outcome(
            "renamed", {"dataset": value[0] if isinstance(value, list) else value} if value else {}
        )
    ),
    f"{D}format_type": by(_format, kind="text"),
    f"{T}training_type": by(_kind, "lora", kind="text"),
    f"{T}max_seq_length": taken("max_seq_length", 2048),
    f"{T}load_in_4bit": by(_bits, True, kind="bool"),
    f"{T}output_dir": no_effect("Runs are stored in the folder of ModelForge."),
    f"{T}num_epochs": by(_epochs, kind="number", least=0),
    f"{T}learning_rate": taken("learning_rate", 2e-4),
    f"{T}embedding_learning_rate": rate_of_tables(),
    f"{T}batch_size": renamed("per_device_train_batch_size", 2),
    f"{T}gradient_accumulation_steps": taken("gradient_accumulation_steps", 4),
    f"{T}warmup_steps": renamed("schedule.warmup_steps", 5),
    f"{T}warmup_ratio": taken("warmup_ratio"),
    f"{T}max_steps": _steps("max_steps"),
    f"{T}save_steps": _steps("trainer.save_steps"),
    f"{T}eval_steps": _steps("eval_steps"),
    f"{T}weight_decay": taken("weight_decay", 0.01),
    f"{T}random_seed": renamed("trainer.seed", 3407),
    f"{T}packing": taken("packing", False),
    f"{T}train_on_completions": by(_completions, False, kind="bool"),
    f"{T}gradient_checkpointing": by(_checkpointing, "unsloth"),
    f"{T}optim": optimizer("adamw_8bit"),
    f"{T}lr_scheduler_type": schedule("lr_scheduler_type", "linear"),
    f"{T}trust_remote_code": refused("It would run code from the model's repository.", False),
    f"{L}lora_r": taken("lora_r", 64),
    f"{L}lora_alpha": taken("lora_alpha", 16),
    f"{L}lora_dropout": taken("lora_dropout", 0.0),
    f"{L}target_modules": by(_targets, kind="names"),
    f"{L}use_rslora": renamed("adapter.use_rslora"),
    f"{L}use_dora": renamed("adapter.use_dora"),
    f"{L}use_loftq": by(
        lambda value, _: Outcome("converted", {"adapter.init": "loftq"} if value else {}),
        kind="bool",
    ),
    f"{L}vision_all_linear": refused(IMAGES, False),
    f"{L}finetune_vision_layers": no_effect(IMAGES),
    f"{L}finetune_language_layers": no_effect("The modules decide."),
    f"{L}finetune_attention_modules": no_effect("The modules decide."),
    f"{L}finetune_mlp_modules": no_effect("The modules decide."),
    f"{G}enable_wandb": _tracker("wandb"),
    f"{G}enable_tensorboard": _tracker("tensorboard"),
    f"{G}wandb_project": renamed("logging.project"),
    f"{G}tensorboard_dir": no_effect("It is stored in the folder of the run."),
    f"{G}log_frequency": renamed("logging.logging_steps"),
    f"{G}wandb_token": no_effect("A token in a file is not read. Run `wandb login`."),
    f"{G}hf_token": no_effect("A token in a file is not read. Run `hf auth login`."),
    **{
        f"inference.{name}": no_effect(ANSWERS)
        for name in (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "presence_penalty",
            "repetition_penalty",
            "max_new_tokens",
            "trust_remote_code",
        )
    },
}
SYSTEM = System(
    name="unsloth",
    title="Unsloth Studio",
    options=OPTIONS,
    groups=frozenset(("data", "training", "lora", "logging", "inference")),
    check=_check,
    finish=_finish,
    programs=("unsloth train", "unsloth studio"),
)
