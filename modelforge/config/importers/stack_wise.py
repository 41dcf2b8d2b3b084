"""Stack-Wise: its YAML files with the groups model, training and data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from modelforge.config.importers.from_nothing import stack_wise as stack_wise_model
from modelforge.config.importers.options import (
    Option,
    Values,
    by,
    coming,
    no_effect,
    number,
    renamed,
    taken,
)
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.system import System
from modelforge.config.validation_messages import shown
from modelforge.errors import Problem

GROWING = "growing a model stack by stack"
T, P, M, D = "training.", "training.progressive.", "model.", "data."
TRAINING = (
    *("mode", "fusion_mode", "total_blocks", "block_size", "epochs_per_layer"),
    *("current_block_lr", "qlora_lr", "qlora_enabled", "qlora_rank", "qlora_alpha"),
    *("save_fused_checkpoints", "time_step_masking", "num_time_steps"),
    *("time_step_mask_fractions", "min_mask_fraction", "max_mask_fraction", "mask_schedule_type"),
)
PROGRESSIVE = (
    *("enabled", "trunk_strategy", "new_stack_precision", "qlora_enabled", "qlora_strategy"),
    *("qlora_rank", "qlora_alpha", "progressive_qlora", "progressive_qlora_rank"),
    *("progressive_qlora_alpha", "qlora_rank_pattern", "qlora_alpha_pattern", "qlora_configs"),
)

_SIZE: dict[str, Any] = {"kind": "int", "least": 1}
_SHARE: dict[str, Any] = {"kind": "number", "least": 0, "most": 1}
_RATE: dict[str, Any] = {"kind": "number", "least": 0}
_SWITCH: dict[str, Any] = {"kind": "bool"}
_PATTERN: dict[str, Any] = {"choices": ("constant", "increasing", "decreasing", "linear")}
BOUNDS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("total_blocks", "block_size", "epochs_per_layer", "num_time_steps"), _SIZE),
    **dict.fromkeys(("qlora_rank", "qlora_alpha", "progressive_qlora_rank"), _SIZE),
    **dict.fromkeys(("min_mask_fraction", "max_mask_fraction"), _SHARE),
    **dict.fromkeys(("current_block_lr", "qlora_lr"), _RATE),
    **dict.fromkeys(("qlora_enabled", "enabled"), _SWITCH),
    **dict.fromkeys(("time_step_masking", "save_fused_checkpoints", "progressive_qlora"), _SWITCH),
    **dict.fromkeys(("qlora_rank_pattern", "qlora_alpha_pattern"), _PATTERN),
    "progressive_qlora_alpha": _SIZE,
    "qlora_configs": {"kind": "map"},
    "time_step_mask_fractions": {"kind": "list"},
    "mask_schedule_type": {"choices": ("linear", "exponential", "cosine")},
    "mode": {"choices": ("layerwise", "blockwise", "fused")},
    "fusion_mode": {"choices": ("frozen", "trainable")},
    "trunk_strategy": {"choices": ("frozen", "qlora")},
    "new_stack_precision": {"choices": ("full", "half", "bfloat16", "nvfp4", "qlora")},
    "qlora_strategy": {"choices": ("simplified", "progressive", "variable")},
}
UNTRAINABLE = {
    "nvfp4": "Weights in NVFP4 cannot be trained; choose bfloat16 for the new stack.",
    "qlora": "It is an adapter, not a precision; trunk_strategy says it.",
}
# Names of levels in Python's logging -> ours.
LOG_LEVELS = {
    **{name: name for name in ("debug", "info", "warning", "error")},
    "warn": "warning",
    "critical": "error",
}


def _growing(name: str) -> Option:
    """Return an option of growing; what contradicts itself, or cannot be trained, is said."""
    last = name.rpartition(".")[2]
    option = coming(GROWING, **BOUNDS.get(last, {}))

    def read(value: Any, values: Values) -> Outcome:
        outcome = option.read(value, values)
        note = _note(name, value, values)
        return replace(outcome, why=f"{note} {outcome.why}") if note else outcome

    return replace(option, read=read)


def _note(name: str, value: Any, values: Values) -> str:
    if name.endswith("new_stack_precision"):
        return UNTRAINABLE.get(value, "")
    if name == "qlora_enabled" and value and values.get(f"{T}fusion_mode") == "frozen":
        return (
            "The blocks below are frozen, their adapters too; that of the newest block is trained."
        )
    if name == "time_step_masking" and value and values.get(f"{M}attention_mode") == "causal":
        return "Masks are for bidirectional attention, and attention_mode is causal."
    if name in ("fusion_mode", "progressive.trunk_strategy") and value in ("trainable", "qlora"):
        return "The blocks below are trained by an adapter alone."
    return ""


def _quantization(value: str, values: Values) -> Outcome:
    if values.get(f"{T}quantization_enabled") is False:
        return Outcome("no-effect", why="quantization_enabled is off.")
    if value in ("fp16", "fp32"):
        settings = {"hardware.precision": value, "quantization.scheme": "none"}
        return Outcome("converted", settings, "It is a precision, not a quantization.")
    settings = {"quantization.scheme": "fp8-weight-only"}
    if value == "fp4":
        return Outcome(
            "converted",
            {"use_4bit": True, "bnb_4bit_quant_type": "fp4"},
            "How the frozen weights are kept.",
        )
    return Outcome("converted", settings, "How the frozen weights are kept.")


def _enabled(value: bool, _: Values) -> Outcome:
    if value:
        return Outcome("no-effect", why="quantization_type says how.")
    return Outcome("converted", {"quantization.scheme": "none"}, "Weights are not quantized.")


def _length(value: int, values: Values) -> Outcome:
    other = values.get(f"{D}max_length")
    if isinstance(other, int) and other < value:
        return Outcome("no-effect", why=f"data.max_length, {other}, is less.")
    return Outcome("renamed", {"max_seq_length": value})


def _max_length(value: int, values: Values) -> Outcome:
    other = values.get(f"{T}seq_len")
    if isinstance(other, int) and other <= value:
        return Outcome("no-effect", why=f"training.seq_len, {other}, is not more.")
    return Outcome("renamed", {"max_seq_length": value})


def _dummy(value: bool, _: Values) -> Outcome:
    if not value:
        return Outcome("no-effect", why="This value asks for nothing.")
    why = "A shipped sample stands in for made-up rows."
    return Outcome("converted", {"dataset": "sample:captain"}, why)


def _dataset(value: str | None, values: Values) -> Outcome:
    if values.get(f"{D}use_dummy_data") or value is None:
        return Outcome("no-effect", why="use_dummy_data decides.")
    return Outcome("renamed", {"dataset": value})


def _rows(value: int, values: Values) -> Outcome:
    path = values.get(f"{D}dataset_path")
    if values.get(f"{D}use_dummy_data") or not path:
        return Outcome("no-effect", why="It is a number of made-up rows.")
    source = {"path": path, "samples": value}
    return Outcome("converted", {"data.sources": [source]}, "Rows that are taken from the file.")


def _mixed(value: bool, _: Values) -> Outcome:
    precision = "auto" if value else "fp32"
    return Outcome("converted", {"hardware.precision": precision}, "The best of this computer.")


def _check(values: Values) -> Iterator[Problem]:
    layers, blocks = values.get(f"{M}n_layers"), values.get(f"{T}total_blocks")
    size = values.get(f"{T}block_size")
    is_given = isinstance(layers, int) and isinstance(blocks, int) and isinstance(size, int)
    product = int(blocks or 0) * int(size or 0) if is_given else 0
    if is_given and layers != product:
        what = f"It is {layers}, and total_blocks times block_size is {product}."
        yield Problem(f"{M}n_layers", what, "Make them equal.")
    yield from stack_wise_model.problems(values)
    steps = values.get(f"{T}num_time_steps")
    fractions = values.get(f"{T}time_step_mask_fractions")
    if isinstance(steps, int) and isinstance(fractions, list) and len(fractions) != steps:
        what = f"It has {len(fractions)} values, and num_time_steps is {steps}."
        yield Problem(f"{T}time_step_mask_fractions", what, "Make them equal.")
    yield from _mask_problems(values)
    stacks = [number(name) for name in values.get(f"{P}qlora_configs") or {}]
    extra = [name for name in stacks if not isinstance(name, int) or name >= (blocks or name + 1)]
    if extra:
        what = f"It has stack {extra[0]!r}; stacks are numbers from 0, below total_blocks."
        yield Problem(f"{P}qlora_configs", what, "Leave the stack out, or raise total_blocks.")
    if values.get(f"{D}use_dummy_data") is False and not values.get(f"{D}dataset_path"):
        what = "use_dummy_data is off, and dataset_path is missing."
        yield Problem(f"{D}use_dummy_data", what, "Enter dataset_path.")


def _debug(value: bool, _: Values) -> Outcome:
    if not value:
        return Outcome("no-effect", why="log_level decides.")
    return Outcome("converted", {"logging.log_level": "debug"}, "The most detailed log.")


def _log_level(value: str, values: Values) -> Outcome:
    if values.get(f"{T}debug"):
        return Outcome("no-effect", why="debug decides.")
    level = LOG_LEVELS[value.lower()]
    if level == value:
        return Outcome("renamed", {"logging.log_level": value})
    return Outcome("converted", {"logging.log_level": level}, "The same level by its name here.")


def _mask_problems(values: Values) -> Iterator[Problem]:
    fractions = values.get(f"{T}time_step_mask_fractions") or []
    wrong = [each for each in fractions if not isinstance(each, (int, float)) or not 0 <= each <= 1]
    if wrong:
        what = f"{shown(wrong[0])} is not a share from 0 to 1."
        yield Problem(f"{T}time_step_mask_fractions", what, "Enter shares.")
    least, most = values.get(f"{T}min_mask_fraction"), values.get(f"{T}max_mask_fraction")
    if least is not None and most is not None and least > most:
        what = f"It is {least:g}, and max_mask_fraction is {most:g}."
        yield Problem(f"{T}min_mask_fraction", what, "Lower it.")


def _tokenizer(value: str, values: Values) -> Outcome:
    is_new = stack_wise_model.is_described(values)
    return Outcome("renamed", {"pretraining.tokenizer" if is_new else "model.tokenizer": value})


OPTIONS: dict[str, Option] = {
    **{f"{M}{name}": option for name, option in stack_wise_model.OPTIONS.items()},
    **{f"{T}{name}": _growing(name) for name in TRAINING},
    **{f"{P}{name}": _growing(f"progressive.{name}") for name in PROGRESSIVE},
    f"{T}learning_rate": renamed("learning_rate", 1e-4),
    f"{T}weight_decay": renamed("weight_decay", 0.1),
    f"{T}batch_size": renamed("per_device_train_batch_size", 4),
    f"{T}seq_len": by(_length, kind="int", least=1),
    f"{T}max_steps": renamed("max_steps", 200),
    f"{T}log_interval": renamed("logging.logging_steps", 10),
    f"{T}save_interval": renamed("trainer.save_steps", 100),
    f"{T}validation_interval": renamed("eval_steps"),
    f"{T}run_id": renamed("logging.run_name"),
    f"{T}checkpoint_dir": no_effect("Checkpoints are stored in the folder of the run."),
    f"{T}mixed_precision": by(_mixed, kind="bool"),
    f"{T}quantization_enabled": by(_enabled, kind="bool"),
    f"{T}quantization_type": by(_quantization, choices=("fp4", "fp8", "fp16", "fp32")),
    f"{T}debug": by(_debug, kind="bool"),
    f"{T}log_level": by(_log_level, choices=(*LOG_LEVELS, *map(str.upper, LOG_LEVELS))),
    f"{D}dataset_path": by(_dataset, kind="text"),
    f"{D}use_dummy_data": by(_dummy, kind="bool"),
    f"{D}num_samples": by(_rows, kind="int", least=1),
    f"{D}tokenizer_path": by(_tokenizer, kind="text"),
    f"{D}max_length": by(_max_length, kind="int", least=1),
    f"{D}num_workers": renamed("data.num_workers", 0),
    f"{D}shuffle": taken("data.shuffle", True, kind="bool"),
    "precision_options": no_effect("A list of what there is, not an option."),
}


def _finish(values: Values, settings: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "task": "text-generation",
        "provider": "huggingface",
        "strategy": "sft",
        "group_by_length": False,
    }
    if "quantization.scheme" not in settings and "use_4bit" not in settings:
        found["quantization.scheme"] = "none"
    return found | stack_wise_model.settings(values, settings)


SYSTEM = System(
    name="stack-wise",
    title="Stack-Wise",
    options=OPTIONS,
    groups=frozenset(
        ("model", "model.tokenizer_embedding", "training", "training.progressive", "data")
    ),
    check=_check,
    finish=_finish,
)
