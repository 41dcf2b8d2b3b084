"""The options of Transformers' `TrainingArguments`, which TRL, LLaMA-Factory and others share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from modelforge.config.importers.options import (
    ABSENT,
    Option,
    Values,
    by,
    no_effect,
    number,
    refused,
    renamed,
    taken,
    words,
)
from modelforge.config.importers.precision.arguments import checkpointing_arguments, compile_mode
from modelforge.config.importers.report import Outcome, Result
from modelforge.config.importers.shared.gpus import by_hand
from modelforge.config.importers.shared.results import (
    RESULT_ARGUMENTS,
    is_share,
    result_argument,
)
from modelforge.config.importers.shared.resuming import resumed
from modelforge.config.optimizers import RESULT_SCHEDULES, LearningRateSchedule, Optim
from modelforge.config.schema.runtime import COMPILE_MODES
from modelforge.config.validation_messages import shown

OWN_FOLDER = "Runs are stored in the folder of ModelForge."
ALWAYS_TRAINS = "A run here always trains, and evaluates if rows are set aside."
# "passive" leaves the level as it is.
LOG_LEVELS = {
    **{name: name for name in ("debug", "info", "warning", "error")},
    "detail": "debug",
    "critical": "error",
    "passive": "info",
}
ASKS_NOTHING = "This value asks for nothing."
RESUMED = "A run here always resumes with its data, callbacks and random numbers."
# Spellings of optimizers: older names of Transformers, and PyTorch's own.
OPTIMIZERS = {name: name for name in get_args(Optim)} | {
    "adamw_hf": "adamw_torch",
    "adamw_bnb_8bit": "adamw_8bit",
    "lion": "lion_32bit",
}
SCHEDULE_ARGUMENTS = {
    "min_lr_rate": "schedule.final_lr_fraction",
    "min_lr_ratio": "schedule.final_lr_fraction",
    "num_decay_steps": "schedule.decay_steps",
    "decay_type": "schedule.decay_shape",
}
# Arguments with a meaning for one schedule, and their settings.
SHAPES = {"num_cycles": "cosine_with_restarts", "power": "polynomial"}
SHAPE_SETTINGS = {"num_cycles": "schedule.cycles", "power": "schedule.power"}
SCHEDULES = {name: name for name in get_args(LearningRateSchedule)} | {
    "wsd": "warmup_stable_decay",
    "constant_with_warm_up": "constant_with_warmup",
}


def optimizer(default: Any = ABSENT) -> Option:
    """Return the option `optim`."""

    def read(value: str, values: Values) -> Outcome:
        if values.get("use_muon"):
            return Outcome("no-effect", why="use_muon decides.")
        if value not in OPTIMIZERS:
            known = "adamw_torch, adamw_8bit, paged_adamw_8bit, adafactor, lion_8bit and others"
            return Outcome("refused", why=f"{value} is not an optimizer here. There are {known}.")
        ours = OPTIMIZERS[value]
        result: Result = "taken" if ours == value else "converted"
        # Weights decay everywhere in the Muon of other systems.
        plain = {"optimizer.cautious_weight_decay": False} if ours == "muon" else {}
        why = "" if ours == value else "Its name today."
        return Outcome(result, {"optim": ours, **plain}, why)

    return by(read, default, kind="text")


def schedule(setting: str = "lr_scheduler_type", default: Any = ABSENT) -> Option:
    """Return the option with the name of the schedule."""

    def read(value: str, _: Values) -> Outcome:
        if value not in SCHEDULES:
            why = f"{value} is not a schedule here. There are {', '.join(SCHEDULES)}."
            return Outcome("refused", why=why)
        return Outcome("taken", {setting: SCHEDULES[value]})

    return by(read, default, kind="text")


def warmup_steps() -> Option:
    """Return the option with the steps of the warm-up, or a share of all steps below 1."""

    def read(value: Any, values: Values) -> Outcome:
        value = number(value)
        if isinstance(value, float) and 0 < value < 1:
            why = "Below 1 it is a share of the steps."
            return Outcome("converted", {"warmup_ratio": value}, why)
        if not value:
            ratio = values.get("warmup_ratio") or 0.0
            why = "warmup_ratio decides." if ratio else "No warm-up."
            return Outcome("converted", {"warmup_ratio": ratio}, why)
        return Outcome("renamed", {"schedule.warmup_steps": value})

    return by(read, kind="numeric")


def epochs(default: Any = ABSENT, result: Result = "renamed") -> Option:
    """Return the option with the number of epochs."""

    def read(value: Any, _: Values) -> Outcome:
        value = number(value)
        if value <= 0:
            return Outcome("refused", why="The number of epochs is above 0.")
        if not float(value).is_integer():
            why = "A part of an epoch has a setting of its own."
            return Outcome("converted", {"trainer.fractional_epochs": value}, why)
        return Outcome(result, {"num_train_epochs": int(value)})

    return by(read, default, kind="numeric")


def interval(setting: str, of: str) -> Option:
    """Return an option that is a number of steps, or a share of all of them below 1."""

    def read(value: Any, _: Values) -> Outcome:
        value = number(value)
        if isinstance(value, float) and value < 1:
            why = f"A share of all steps; here a {of} is a number of steps."
            return Outcome("refused", why=why)
        return Outcome("renamed" if "." in setting else "taken", {setting: int(value)})

    return by(read, kind="numeric")


def _eval_strategy(value: Any, _: Values) -> Outcome:
    if value in ("no", False):
        return Outcome("converted", {"eval_split": 0.0}, "No rows are set aside for evaluation.")
    if value == "epoch":
        why = "Evaluations are every so many steps here; eval_steps says how many."
        return Outcome("no-effect", why=why)
    return Outcome("no-effect", why="eval_steps says how often.")


def schedule_arguments(value: Any, values: Values) -> Outcome:
    """Return what the arguments of the schedule become: the decay, and the rate at the end."""
    if not isinstance(value, dict):
        return Outcome("refused", why="Write its arguments by name.")
    settings, unknown = {}, []
    rate = number(values.get("learning_rate"))
    kind = values.get("lr_scheduler_type") or values.get("lr_scheduler")
    for name, part in value.items():
        if name in SCHEDULE_ARGUMENTS:
            settings[SCHEDULE_ARGUMENTS[name]] = part
        elif name in ("lr_end", "min_lr") and is_share(number(part), rate):
            settings["schedule.final_lr_fraction"] = number(part) / rate
        elif name in SHAPES and SHAPES[name] == kind:
            settings[SHAPE_SETTINGS[name]] = part
        elif kind in RESULT_SCHEDULES and name in RESULT_ARGUMENTS:
            found = result_argument(name, part, rate)
            settings |= found or {}
            unknown += [] if found is not None else [f"{name} of {shown(part)}"]
        elif name != "power" or part != 1:
            unknown.append(str(name))
    if unknown:
        return Outcome("refused", why=f"The schedule has no {', '.join(unknown)} here.")
    return Outcome("converted", settings, "Settings of their own.")


def _save_strategy(value: Any, _: Values) -> Outcome:
    if value in ("no", False):
        return Outcome("converted", {"trainer.save_steps": -1}, "Saved at the end alone.")
    return Outcome("no-effect", why="save_steps says how often.")


def precision(name: str) -> Option:
    """Return the option `bf16` or `fp16`; off, it leaves the precision to the other one.

    Both off is training in fp32.
    """
    other = "fp16" if name == "bf16" else "bf16"

    def read(value: bool | None, values: Values) -> Outcome:
        if value:
            return Outcome("taken", {name: True})
        if value is False and values.get(other) is False:
            why = "Neither 16-bit format is on, which is fp32."
            return Outcome("converted", {"hardware.precision": "fp32"}, why)
        return Outcome("no-effect", why="The precision is chosen for this computer.")

    return by(read, kind="bool")


def _report_to(value: Any, _: Values) -> Outcome:
    names = value if isinstance(value, list) else [value]
    names = [str(name) for name in names if name not in ("none", "all", None, "")]
    if not names:
        return Outcome("taken", {"logging.report_to": ""})
    return Outcome("renamed", {"logging.report_to": ", ".join(names)})


def sampling_strategy(value: Any, values: Values) -> Outcome:
    """Return what becomes of the order of rows, `train_sampling_strategy`."""
    if value == "group_by_length":
        return Outcome("converted", {"group_by_length": True}, "A switch of its own here.")
    if value == "sequential":
        settings = {"data.shuffle": False, "group_by_length": False}
        return Outcome("converted", settings, "A switch of its own here.")
    grouped = bool(values.get("group_by_length"))
    return Outcome("converted", {"group_by_length": grouped}, "A switch of its own here.")


def _compile(value: bool, _: Values) -> Outcome:
    return Outcome("renamed", {"trainer.torch_compile": value})


# Options that change nothing here, with the reason.
_WITHOUT_EFFECT: dict[str, str] = {
    "output_dir": OWN_FOLDER,
    "overwrite_output_dir": OWN_FOLDER,
    "logging_dir": OWN_FOLDER,
    "do_train": ALWAYS_TRAINS,
    "do_eval": ALWAYS_TRAINS,
    "do_predict": "Answers are given on the pages Chat and Evaluation.",
    "ignore_data_skip": RESUMED,
    "restore_callback_states_from_checkpoint": RESUMED,
    "bf16_full_eval": "Evaluation has the precision of the training.",
    "fp16_full_eval": "Evaluation has the precision of the training.",
    "tf32": "PyTorch's own choice is kept.",
    "use_cache": "It is off in training and on in answers.",
    "torch_empty_cache_steps": "Memory is given back when a step runs out of it.",
    "logging_strategy": "Every step is logged.",
    "logging_first_step": "Every step is logged.",
    "log_on_each_node": "There is one computer.",
    "logging_nan_inf_filter": "A loss that is not finite ends the run, with its cause.",
    "include_num_input_tokens_seen": "Tokens are always counted.",
    "include_tokens_per_second": "Tokens per second are always shown.",
    "log_level_replica": "There is one process.",
    "disable_tqdm": "The page shows the progress.",
    "trackio_space_id": "Only local trackers are filled.",
    "trackio_bucket_id": "Only local trackers are filled.",
    "trackio_static_space_id": "Only local trackers are filled.",
    "eval_delay": "Evaluations begin at their first interval.",
    "prediction_loss_only": "Evaluation needs no stored predictions.",
    "eval_do_concat_batches": "Evaluation needs no stored predictions.",
    "eval_use_gather_object": "There is one process.",
    "eval_accumulation_steps": "Evaluation needs no stored predictions.",
    "include_for_metrics": "Evaluation needs no stored predictions.",
    "batch_eval_metrics": "Evaluation needs no stored predictions.",
    "save_safetensors": "Weights are always stored as safetensors.",
    "save_only_model": "A checkpoint has what a run needs to go on.",
    "save_on_each_node": "There is one computer.",
    "enable_jit_checkpoint": "A run that is ended saves a checkpoint by itself.",
    "metric_for_best_model": "The loss of the evaluation decides which model is kept.",
    "greater_is_better": "The loss of the evaluation decides which model is kept.",
    "data_seed": "One seed decides for all.",
    "full_determinism": "Seeds are always set.",
    "accelerator_config": "The settings of Accelerate are chosen here.",
    "dataloader_drop_last": "The last rows are trained too.",
    "dataloader_pin_memory": "It is on where there is a GPU.",
    "dataloader_persistent_workers": "Chosen here.",
    "dataloader_prefetch_factor": "Chosen here.",
    "dataloader_multiprocessing_context": "Chosen here.",
    "dataloader_in_order": "Chosen here.",
    "remove_unused_columns": "Only the columns that are trained are read.",
    "label_names": "The labels are known.",
    "length_column_name": "Lengths are counted here.",
    "skip_memory_metrics": "Memory is always measured.",
    "debug": "The log of a run has every detail.",
    "average_tokens_across_devices": "There is one process.",
    "local_rank": "There is one process.",
    "ddp_timeout": "There is one process.",
    "jit_mode_eval": "Removed from Transformers.",
    "optim_args": "The usual values of the optimizer are kept.",
    "optim_target_modules": "It concerns optimizers that are not offered here.",
    "hub_strategy": "The Export page uploads to the Hub.",
    "hub_token": "A token in a file is not read. Run `hf auth login`.",
    "hub_private_repo": "The Export page uploads to the Hub.",
    "hub_model_id": "The Export page uploads to the Hub.",
    "hub_always_push": "The Export page uploads to the Hub.",
    "hub_revision": "The Export page uploads to the Hub.",
    "push_to_hub": "The Export page uploads to the Hub.",
    "torch_compile_backend": "PyTorch's own choice is kept.",
    "liger_kernel_config": "TRL computes the loss in chunks here.",
}
_SEVERAL_GPUS = (
    *("parallelism_config", "ddp_find_unused_parameters", "ddp_bucket_cap_mb"),
    *("ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend", "fsdp", "fsdp_config"),
    "deepspeed",
)


OPTIONS: dict[str, Option] = {
    **{name: no_effect(why) for name, why in _WITHOUT_EFFECT.items()},
    **{name: by_hand(None) for name in _SEVERAL_GPUS},
    "per_device_train_batch_size": taken("per_device_train_batch_size"),
    "per_device_eval_batch_size": taken("per_device_eval_batch_size"),
    "num_train_epochs": epochs(result="taken"),
    "max_steps": taken("max_steps"),
    "learning_rate": by(
        lambda value, _: Outcome("taken", {"learning_rate": number(value)}),
        kind="numeric",
    ),
    "lr_scheduler_type": schedule(),
    "lr_scheduler_kwargs": by(schedule_arguments, kind="map or text"),
    "warmup_steps": warmup_steps(),
    "warmup_ratio": taken("warmup_ratio"),
    "optim": optimizer(),
    "weight_decay": taken("weight_decay"),
    "adam_beta1": renamed("optimizer.beta1"),
    "adam_beta2": renamed("optimizer.beta2"),
    "adam_epsilon": renamed("optimizer.epsilon"),
    "gradient_accumulation_steps": taken("gradient_accumulation_steps"),
    "max_grad_norm": taken("max_grad_norm"),
    "label_smoothing_factor": refused("The loss is not smoothed here.", 0.0),
    "resume_from_checkpoint": resumed(),
    "bf16": precision("bf16"),
    "fp16": precision("fp16"),
    "gradient_checkpointing": taken("gradient_checkpointing"),
    "torch_compile": by(_compile, kind="bool"),
    "torch_compile_mode": by(compile_mode, choices=(*COMPILE_MODES, None)),
    "gradient_checkpointing_kwargs": by(checkpointing_arguments, kind="map or text"),
    "use_liger_kernel": no_effect("TRL computes the loss in chunks here."),
    "neftune_noise_alpha": renamed("trainer.neftune_noise_alpha"),
    "auto_find_batch_size": renamed("memory.auto_batch_size"),
    "logging_steps": interval("logging.logging_steps", "logging interval"),
    "report_to": by(_report_to),
    "run_name": renamed("logging.run_name"),
    "log_level": words("logging.log_level", LOG_LEVELS, why="The nearest level here."),
    "project": renamed("logging.project"),
    "eval_strategy": by(_eval_strategy),
    "evaluation_strategy": by(_eval_strategy),
    "eval_steps": interval("eval_steps", "evaluation interval"),
    "eval_on_start": no_effect("The base model is measured on the page Evaluation."),
    "save_strategy": by(_save_strategy),
    "save_steps": interval("trainer.save_steps", "saving interval"),
    "save_total_limit": renamed("trainer.save_total_limit"),
    "load_best_model_at_end": renamed("evaluation.keep_best"),
    "seed": renamed("trainer.seed"),
    "use_cpu": words("hardware.device", {True: "cpu", False: "auto", None: "auto"}),
    "no_cuda": words("hardware.device", {True: "cpu", False: "auto"}),
    "dataloader_num_workers": renamed("data.num_workers"),
    "group_by_length": taken("group_by_length"),
    "train_sampling_strategy": by(sampling_strategy, kind="text"),
}


def training_arguments(defaults: dict[str, Any]) -> dict[str, Option]:
    """Return the options by name; `defaults` are those of the system that matter here."""
    known = dict(OPTIONS)
    for name, default in defaults.items():
        known[name] = replace(known[name], default=default)
    return known
