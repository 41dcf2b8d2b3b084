"""Stack-Wise: its YAML files with the groups model, training and data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelforge.config.importers.from_nothing import stack_wise as stack_wise_model
from modelforge.config.importers.from_nothing import stack_wise_stages as stages
from modelforge.config.importers.options import (
    Option,
    Values,
    by,
    no_effect,
    renamed,
    taken,
)
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.system import System
from modelforge.errors import Problem

T, M, D = "training.", "model.", "data."
# Names of levels in Python's logging -> ours.
LOG_LEVELS = {
    **{name: name for name in ("debug", "info", "warning", "error")},
    "warn": "warning",
    "critical": "error",
}


def _quantization(value: str, values: Values) -> Outcome:
    if values.get(f"{T}quantization_enabled") is False:
        return Outcome("no-effect", why="quantization_enabled is off.")
    if value in ("fp16", "fp32"):
        settings = {"hardware.precision": value, "quantization.scheme": "none"}
        return Outcome("converted", settings, "It is a precision, not a quantization.")
    if stages.grows(values):
        return stages.quantization(value, values)
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
    yield from stages.problems(values)
    yield from stack_wise_model.problems(values)
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


def _tokenizer(value: str, values: Values) -> Outcome:
    is_new = stack_wise_model.is_described(values)
    return Outcome("renamed", {"pretraining.tokenizer" if is_new else "model.tokenizer": value})


OPTIONS: dict[str, Option] = {
    **{f"{M}{name}": option for name, option in stack_wise_model.OPTIONS.items()},
    **{f"{T}{name}": option for name, option in stages.TRAINING.items()},
    **{f"{T}progressive.{name}": option for name, option in stages.OF_STACKS.items()},
    f"{T}learning_rate": renamed("learning_rate", 1e-4),
    f"{T}weight_decay": renamed("weight_decay", 0.1),
    f"{T}batch_size": renamed("per_device_train_batch_size", 4),
    f"{T}seq_len": by(_length, kind="int", least=1),
    f"{T}max_steps": by(stages.steps, 200, kind="int"),
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
    found |= stack_wise_model.settings(values, settings)
    return found | stages.settings(values, settings)


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
