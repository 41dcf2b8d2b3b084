"""Arguments of Transformers, and options of Axolotl, about precision, memory and compilation."""

from __future__ import annotations

from typing import Any

from modelforge.config.importers.options import Values
from modelforge.config.importers.report import Outcome, Result


def compile_mode(value: str | None, _: Values) -> Outcome:
    """Return what the mode of torch.compile becomes; a mode alone switches compilation on."""
    if value is None:
        return Outcome("no-effect", why="This value asks for nothing.")
    settings = {"hardware.torch_compile_mode": value, "trainer.torch_compile": True}
    return Outcome("renamed", settings)


def checkpointing_arguments(value: Any, _: Values) -> Outcome:
    """Return what the arguments of gradient checkpointing become."""
    if not isinstance(value, dict):
        return Outcome("refused", why="Write its arguments by name.")
    known = {
        "every_n_layers": "memory.checkpoint_every_n_layers",
        "offload": "memory.activation_offload",
    }
    settings = {setting: value[name] for name, setting in known.items() if name in value}
    unknown = [str(name) for name in value if name not in {*known, "use_reentrant"}]
    if unknown:
        why = f"Gradient checkpointing has no argument {', '.join(unknown)} here."
        return Outcome("refused", why=why)
    if not settings:
        return Outcome("no-effect", why="The form without reentrance is always used.")
    return Outcome("converted", settings, "Settings of their own.")


def bf16(value: Any, _: Values) -> Outcome:
    """Return what the option `bf16` becomes."""
    if value in ("auto", False):
        return Outcome("no-effect", why="The precision is chosen for this computer.")
    return Outcome("taken", {"bf16": True})


def checkpointing(value: Any, _: Values) -> Outcome:
    """Return what the option `gradient_checkpointing` becomes."""
    if value == "unsloth":
        return Outcome("converted", {"gradient_checkpointing": True}, "Unsloth has its own.")
    if value == "offload":
        settings = {"gradient_checkpointing": True, "memory.activation_offload": True}
        return Outcome("converted", settings, "A switch of its own here.")
    return Outcome("taken", {"gradient_checkpointing": bool(value)})


def offloading(value: Any, _: Values) -> Outcome:
    """Return what the option `activation_offloading` becomes."""
    if value in ("disk", "hidden_states"):
        why = f"{value} is not offered; activations are moved to the memory of the computer."
        return Outcome("converted", {"memory.activation_offload": True}, why)
    on = bool(value)
    result: Result = "renamed" if value is on else "converted"
    return Outcome(result, {"memory.activation_offload": on}, "" if value is on else "On.")
