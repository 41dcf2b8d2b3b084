"""Rules about the training engine."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.config.engines import (
    COMMANDS,
    read_engine_options,
    uses_surogate,
)
from modelforge.config.methods import facts_of, method_of
from modelforge.config.rules.registry import rule
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem

_REMEDY = "or the engine inprocess."


@rule(
    "hardware.engine", "task", "strategy", "provider", "hardware.device", "trainer.preference_loss"
)
def _surogate_trains(config: TrainingConfig) -> Iterator[Problem]:
    if not uses_surogate(config):
        return
    if method_of(config) not in COMMANDS:
        yield Problem(
            "strategy",
            f"Surogate trains SFT and DPO; these settings are {facts_of(config).label}.",
            f"Choose sft, qlora or dpo with the sigmoid loss, {_REMEDY}",
        )
    wrong = (
        ("task", config.task, "text-generation"),
        ("provider", config.provider, "huggingface"),
        ("hardware.device", config.hardware.device, "cuda"),
    )
    for where, value, needed in wrong:
        if value not in (needed, "auto"):
            what = f"Surogate needs {needed}; {where.rpartition('.')[2]} is {value}."
            yield Problem(where, what, f"Choose {needed}, {_REMEDY}")


@rule("hardware.engine", "hardware.gpus", "hardware.sharding")
def _surogate_has_one_gpu(config: TrainingConfig) -> Iterator[Problem]:
    hardware = config.hardware
    if uses_surogate(config) and (hardware.gpus != 1 or hardware.sharding != "none"):
        what = "The engine surogate is given one GPU."
        yield Problem("hardware.gpus", what, f"Set gpus to 1 and sharding to none, {_REMEDY}")


@rule("hardware.engine_options")
def _options_are_known(config: TrainingConfig) -> Iterator[Problem]:
    _options, wrong = read_engine_options(config.hardware.engine_options)
    for what in wrong:
        remedy = "Enter NAME: VALUE, one per line, such as offload_master: true."
        yield Problem("hardware.engine_options", what, remedy)
