"""Options of other systems about several GPUs: how many, and what they divide."""

from __future__ import annotations

from typing import Any

from modelforge.config.importers.options import ABSENT, Option, Values, by, refused
from modelforge.config.importers.report import Outcome

GPUS, SHARDING = "hardware.gpus", "hardware.sharding"
BATCHES = "gradient_accumulation_steps"
ONE = "With one GPU there is nothing to divide."
BY_LEVEL = "zero_level says what is divided."
PIPELINE = "Layers on different GPUs (pipeline parallelism) are not trained here."
EXPERTS = "Accelerate and TRL do not train experts on different GPUs."
COMPUTERS = "One run trains on one computer, here or at a target (modelforge targets add)."
BY_HAND = "Set hardware.gpus and hardware.sharding: how its file divides a model is not read."


def by_hand(unless: Any = ABSENT) -> Option:
    """Return an option of a launcher or an engine whose file is not read."""
    return refused(BY_HAND, unless)


def several(value: int) -> dict[str, Any]:
    """Return the setting of a number of GPUs; the default, 1, asks for nothing."""
    return {} if value == 1 else {GPUS: value}


def batches_of_all(name: str, gpus: str) -> Any:
    """Return how an accumulation is read that counts the batches of each GPU.

    Here it counts those of a step, which the GPUs share. `gpus` is the option with their number.
    """

    def read(value: int, values: Values) -> Outcome:
        count = values.get(gpus)
        count = len(count) if isinstance(count, list) else count
        if not isinstance(count, int) or count < 2 or not isinstance(value, int):
            return Outcome("taken" if name == BATCHES else "renamed", {BATCHES: value})
        why = f"The {value} batches of each of {count} GPUs, which are those of a step here."
        return Outcome("converted", {BATCHES: value * count}, why)

    return read


def gpu_count(value: int, _: Values) -> Outcome:
    """Return what a number of GPUs becomes; 0 is all."""
    if value == 1:
        return Outcome("no-effect", why="One GPU is used.")
    why = "0 is all GPUs here too; gradient accumulation counts the batches of all of them."
    return Outcome("renamed", {GPUS: value}, "" if value else why)


def zero_level(value: int, values: Values) -> Outcome:
    """Return what a level of ZeRO becomes: the same in DeepSpeed."""
    if values.get("gpus") in (None, 1):
        return Outcome("no-effect", why=ONE)
    return Outcome("converted", {SHARDING: f"zero{value}"}, "ZeRO of DeepSpeed.")


def shard(sharding: str) -> Option:
    """Return a switch that divides a part of the model."""

    def read(value: bool, values: Values) -> Outcome:
        if not value or values.get("gpus") in (None, 1):
            return Outcome("no-effect", why=ONE)
        if values.get("zero_level") is not None:
            return Outcome("no-effect", why=BY_LEVEL)
        return Outcome("converted", {SHARDING: sharding}, "What divides it here.")

    return by(read, kind="bool")


def parallelism(value: Any, _: Values) -> Outcome:
    """Return what the kind of parallelism becomes."""
    if value is None:
        return Outcome("no-effect", why="This value asks for nothing.")
    if value == "ddp":
        return Outcome("renamed", {SHARDING: "ddp"})
    return Outcome("refused", why=PIPELINE)


def distributed(value: Any, _: Values) -> Outcome:
    """Return what a group about several computers becomes: on one of them, its number of GPUs."""
    if not value:
        return Outcome("no-effect", why="This value asks for nothing.")
    group = value if isinstance(value, dict) else {}
    count = group.get("gpus_per_node", 0)
    if group.get("num_nodes", 1) != 1 or not isinstance(count, int):
        return Outcome("refused", why=COMPUTERS)
    return Outcome("converted", {GPUS: count}, "The GPUs of one computer; 0 is all of them.")
