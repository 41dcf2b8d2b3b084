"""The part of the plan about memory and compilation on the device."""

from __future__ import annotations

from typing import Any

from modelforge.config.methods import METHOD_FACTS, method_of
from modelforge.config.plan.context import ChangeLog, Device, PlanContext
from modelforge.config.schema.config import TrainingConfig

# Modes of torch.compile that record CUDA graphs, and what each becomes without them.
GRAPH_MODES = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}

# What torch.compile generates code with, as `Machine.packages` names it, and its name in messages.
_HEADERS = {"Python.h": "the header files of Python (Python.h)"}
COMPILERS = {
    "cuda": {"triton": "triton", "cc": "a C compiler", **_HEADERS},
    "cpu": {"c++": "a C++ compiler", **_HEADERS},
}


def device_memory(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> dict[str, Any]:
    """Return the values of the plan about the memory of the device."""
    return {
        "activation_offload": _activation_offload(config, context, log),
        "max_vram_fraction": _vram_fraction(config, context.device, log),
    }


def _activation_offload(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> bool:
    if not config.memory.activation_offload:
        return False
    facts = METHOD_FACTS[method_of(config, context.kind)]
    if context.device != "cuda":
        reason = f"Offloading needs an NVIDIA GPU; this run uses the device {context.device}."
    elif not config.gradient_checkpointing and not facts.offloads_activations:
        reason = f"{facts.label} can offload with gradient checkpointing only."
    else:
        return True
    return log.record("memory.activation_offload", False, reason)


def _vram_fraction(config: TrainingConfig, device: Device, log: ChangeLog) -> float:
    fraction = config.memory.max_vram_fraction
    if fraction == 1.0 or device == "cuda":
        return fraction
    reason = f"The limit needs an NVIDIA GPU; this run uses the device {device}."
    return log.record("memory.max_vram_fraction", 1.0, reason)


def compile_mode(config: TrainingConfig, device: Device, stored: str, log: ChangeLog) -> str:
    """Return the mode of torch.compile; `stored` is the storage format of the frozen weights."""
    mode = config.hardware.torch_compile_mode
    if mode not in GRAPH_MODES:
        return mode
    if device != "cuda":
        reason = f"CUDA graphs need an NVIDIA GPU; this run uses the device {device}."
    elif stored != "none":
        reason = f"CUDA graphs cannot be recorded of {stored} weights, which are dequantized."
    else:
        return mode
    return log.record("hardware.torch_compile_mode", GRAPH_MODES[mode], reason)


def torch_compile(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> bool:
    """Return whether the model is compiled; not without a compiler."""
    if not config.trainer.torch_compile:
        return False
    needed, missing = COMPILERS.get(context.device, {}), missing_compilers(context)
    if needed and not missing:
        return True
    reason = "torch.compile is not supported on Apple GPUs."
    if needed:
        reason = f"torch.compile needs what is not installed: {', '.join(missing)}."
    return log.record("trainer.torch_compile", False, reason)


def missing_compilers(context: PlanContext) -> list[str]:
    """Return what is needed to compile on the device and is not installed."""
    needed = COMPILERS.get(context.device, {})
    return [text for name, text in needed.items() if name not in context.packages]
