"""Options of other systems about Muon, LoRA+, rates of groups of weights, and the cooldown."""

from __future__ import annotations

from typing import Any

from modelforge.config.importers.options import Option, Values, by, number
from modelforge.config.importers.report import Outcome

ASKS_NOTHING = "This value asks for nothing."
# What the updates of Muon are scaled by in Surogate and nanochat.
ORIGINAL = {"optimizer.muon_scale": "original"}
# H2O's own rate of the layers that have another one.
DIFFERENTIAL_RATE = 1e-5
# Surogate's options of NorMuon: our setting, the default there, and the type.
NORMUON: dict[str, tuple[str, Any, str]] = {
    "normuon_momentum": ("optimizer.muon_momentum", 0.95, "number"),
    "normuon_beta2": ("optimizer.muon_beta2", 0.95, "number"),
    "normuon_cautious_wd": ("optimizer.cautious_weight_decay", True, "bool"),
}


def loraplus() -> dict[str, Option]:
    """Return the options of LoRA+ as PEFT, LLaMA-Factory and Axolotl name them."""

    def ratio(value: Any, _: Values) -> Outcome:
        if value is None:
            return Outcome("no-effect", why=ASKS_NOTHING)
        return Outcome("renamed", {"optimizer.loraplus_ratio": number(value)})

    def embedding(value: Any, values: Values) -> Outcome:
        if value is None or values.get("loraplus_lr_ratio") is None:
            return Outcome("no-effect", why="LoRA+ is off without loraplus_lr_ratio.")
        why = "The rate of embeddings: where LoRA adapts them, and where they are fully trained."
        return Outcome("converted", {"optimizer.embedding_lr": number(value)}, why)

    return {
        "loraplus_lr_ratio": by(ratio, kind="numeric"),
        "loraplus_lr_embedding": by(embedding, kind="numeric"),
    }


def rate_of_tables() -> Option:
    """Return the option with the rate of embeddings and head together."""

    def read(value: Any, _: Values) -> Outcome:
        if value is None:
            return Outcome("no-effect", why=ASKS_NOTHING)
        rate = number(value)
        settings = {"optimizer.embedding_lr": rate, "optimizer.unembedding_lr": rate}
        return Outcome("converted", settings, "Embeddings and head have a setting each.")

    return by(read, kind="numeric")


def axolotl_rates() -> dict[str, Option]:
    """Return Axolotl's options about rates of groups of weights."""

    def scaled(value: Any, values: Values) -> Outcome:
        rate = number(values.get("learning_rate"))
        if value is None:
            return Outcome("no-effect", why=ASKS_NOTHING)
        if not isinstance(rate, (int, float)):
            return Outcome("refused", why="It is a multiple of learning_rate, which is missing.")
        new = number(value) * rate
        settings = {"optimizer.embedding_lr": new, "optimizer.unembedding_lr": new}
        return Outcome("converted", settings, f"{number(value):g} times {rate:g}.")

    return {
        **loraplus(),
        "embedding_lr": rate_of_tables(),
        "embedding_lr_scale": by(scaled, kind="numeric"),
    }


def rate_of_layers(prefix: str) -> dict[str, Option]:
    """Return H2O LLM Studio's options of another rate for parts of the model."""
    name = f"{prefix}differential_learning_rate"
    known = {
        "embed": ("optimizer.embedding_lr", "optimizer.unembedding_lr"),
        "backbone": ("optimizer.matrix_lr", "optimizer.scalar_lr", "optimizer.adapter_lr"),
    }

    def rate(_value: Any, values: Values) -> Outcome:
        layers = values.get(f"{name}_layers")
        why = (
            "The layers say whose rate it is." if layers else "There are no layers with this rate."
        )
        return Outcome("no-effect", why=why)

    def layers(value: Any, values: Values) -> Outcome:
        if unknown := [layer for layer in map(str, value) if layer not in known]:
            return Outcome("refused", why=f"{unknown[0][:40]} is not a group of weights here.")
        has_adapter = values.get(f"{prefix}lora") is not False
        settings = {
            setting: number(values.get(name, DIFFERENTIAL_RATE))
            for layer in value
            for setting in known[layer]
            if has_adapter or setting != "optimizer.adapter_lr"
        }
        return Outcome("converted", settings, "Groups of weights have a setting each.")

    return {name: by(rate, kind="numeric"), f"{name}_layers": by(layers, kind="list")}


def use_muon() -> Option:
    """Return the switch of LLaMA-Factory, whose Muon has updates as large as those of AdamW."""

    def read(value: bool, _: Values) -> Outcome:
        if not value:
            return Outcome("no-effect", why=ASKS_NOTHING)
        settings = {"optim": "muon", "optimizer.cautious_weight_decay": False}
        return Outcome("converted", settings, "An optimizer here.")

    return by(read, kind="bool")


def surogate_optimizer() -> Option:
    """Return Surogate's option `optimizer`."""

    def read(value: str, values: Values) -> Outcome:
        if value != "normuon":
            return Outcome("renamed", {"optim": "adamw_torch" if value == "adamw" else value})
        settings = {
            setting: values.get(name, default) for name, (setting, default, _) in NORMUON.items()
        }
        why = "Its updates have the size of those of the first paper on Muon."
        return Outcome("converted", {"optim": "normuon", **ORIGINAL, **settings}, why)

    return by(read, "adamw_8bit", choices=("adamw_8bit", "adamw", "normuon"))


def normuon_options() -> dict[str, Option]:
    """Return Surogate's options of NorMuon, which have no effect with its other optimizers."""

    def option(setting: str, kind: str) -> Option:
        def read(value: Any, values: Values) -> Outcome:
            if values.get("optimizer") != "normuon":
                return Outcome("no-effect", why="It belongs to the optimizer normuon.")
            return Outcome("renamed", {setting: value})

        return by(read, kind=kind)

    return {name: option(setting, kind) for name, (setting, _, kind) in NORMUON.items()}


def cooldown(value: int, values: Values) -> Outcome:
    """Return what Surogate's `cooldown_steps` becomes, by its schedule."""
    if not value:
        return Outcome("no-effect", why=ASKS_NOTHING)
    settings: dict[str, Any] = {"schedule.decay_steps": value}
    name = values.get("lr_scheduler_type")
    if name == "wsd":
        return Outcome("renamed", settings)
    if name == "constant":
        settings["lr_scheduler_type"] = "warmup_stable_decay"
        why = "A constant rate with a cooldown is the schedule warmup_stable_decay."
        return Outcome("converted", settings, why)
    why = "The rate decays from what the schedule has reached then, as its documentation says."
    return Outcome("converted", settings, why)
