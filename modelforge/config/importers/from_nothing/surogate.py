"""Surogate's `from_scratch`: a training from nothing with the tokenizer of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from modelforge.config.importers.options import Option, Values, by
from modelforge.config.importers.report import Outcome
from modelforge.config.importers.surogate_data import has_preferences
from modelforge.errors import Problem

NAME = "from_scratch"
LENGTH = "Tokens per parameter, or max_steps, are the length of a training from nothing."
# Its model has one rate for all weights.
_ONE_RATE = dict.fromkeys(
    (f"optimizer.{kind}_lr" for kind in ("matrix", "embedding", "unembedding", "scalar")), None
)
# What its documentation has for a file without sequence_len.
_LENGTH = 1024


def is_scratch(values: Values) -> bool:
    """Return whether a file trains a model from random weights."""
    return values.get(NAME) is True


def unless_scratch(option: Option, why: str) -> Option:
    """Return an option that has no effect with from_scratch, for a reason."""

    def read(value: Any, values: Values) -> Outcome:
        return Outcome("no-effect", why=why) if is_scratch(values) else option.read(value, values)

    return replace(option, read=read)


def problems(values: Values) -> Iterator[Problem]:
    """Yield what contradicts from_scratch."""
    if not is_scratch(values):
        return
    if values.get("lora") is not False:
        yield Problem(NAME, "lora is on, which trains a part of the weights.", "Write lora: false.")
    if has_preferences(values):
        yield Problem(NAME, "The rows are pairs, which a new model cannot compare.", "Give texts.")


def settings(values: Values) -> dict[str, Any]:
    """Return the settings of a training from nothing; none without from_scratch."""
    if not is_scratch(values):
        return {}
    length = min(
        (
            each
            for name in ("sequence_len", "max_length")
            if isinstance(each := values.get(name), int)
        ),
        default=_LENGTH,
    )
    rows = values["per_device_train_batch_size"] * values["gradient_accumulation_steps"]
    return {
        "pretraining.total_batch_tokens": rows * length,
        "max_seq_length": length,
        "packing": False,
        "adapter.enabled": False,
        "optimizer.muon_scale": "original",
        **_ONE_RATE,
    }


def _switch(value: bool, values: Values) -> Outcome:
    if not value:
        return Outcome("no-effect", why="This value asks for nothing.")
    found: dict[str, Any] = {"pretraining.enabled": True}
    if model := values.get("model"):
        is_qwen = "qwen3" in str(model).lower()
        found["pretraining.arch"] = "qwen3" if is_qwen else "llama"
        found["pretraining.tokenizer"] = str(model)
    why = (
        "A new model with the tokenizer of that one. pretraining.depth is its size: that of the "
        "other is not read."
    )
    return Outcome("converted", found, why)


def _projections(value: bool, values: Values) -> Outcome:
    if not is_scratch(values):
        return Outcome("no-effect", why="Only for from_scratch, which is off.")
    return Outcome("renamed", {"pretraining.init_projections_to_zero": value})


SWITCH = by(_switch, kind="bool")
PROJECTIONS = by(_projections, False, kind="bool")
