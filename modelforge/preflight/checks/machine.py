"""What preflight says of the machine: device, number formats, cards, profile."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.errors import Finding
from modelforge.hardware.machine import choose_profile
from modelforge.preflight.context import RunContext

BF16_FROM = (8, 0)
HELD_GIB = 0.5


def device_missing(case: RunContext) -> Iterator[Finding]:
    """Refuse a device that was asked for and is not here."""
    asked, machine = case.config.hardware.device, case.machine
    missing = {
        "cuda": ("NVIDIA GPU", not machine.gpus),
        "mps": ("Apple GPU", not machine.apple_gpu),
    }
    what, absent = missing.get(asked, ("", False))
    if absent:
        yield Finding(
            "blocker",
            "device-missing",
            f"The device {asked} was asked for, but there is no {what} that can be used here.",
            "Set the device to auto; `python launch.py doctor` says why a card is not seen.",
            "hardware.device",
            "auto",
        )


def gpu_missing(case: RunContext) -> Iterator[Finding]:
    """Refuse a GPU number that no card has."""
    here = [gpu.index for gpu in case.machine.gpus]
    if case.plan.device == "cuda" and here and case.gpu is None:
        numbers = ", ".join(str(index) for index in here)
        yield Finding(
            "blocker",
            "gpu-missing",
            f"There is no GPU number {case.config.hardware.gpu_index}; what is here: {numbers}.",
            f"Choose GPU number {here[0]}.",
            "hardware.gpu_index",
            here[0],
        )


def bf16_card(case: RunContext) -> Iterator[Finding]:
    """Refuse bf16 on a card that only emulates it."""
    capability = case.gpu.compute_capability if case.gpu else None
    if case.plan.precision != "bf16" or capability is None or capability >= BF16_FROM:
        return
    where, value = _precision_setting(case)
    yield Finding(
        "blocker",
        "bf16-card",
        f"bf16 needs compute capability 8.0; this card has {capability[0]}.{capability[1]}.",
        "Use fp16.",
        where if where == "hardware.precision" else "bf16",
        value,
    )


def fp16_on_cpu(case: RunContext) -> Iterator[Finding]:
    """Refuse fp16 on the CPU, where small gradients would be lost."""
    if case.plan.device == "cpu" and case.plan.precision == "fp16":
        where, value = _precision_setting(case)
        yield Finding(
            "blocker",
            "fp16-on-cpu",
            "fp16 trains on a GPU only; this run would be on the CPU.",
            "Switch fp16 off; the CPU then trains in fp32.",
            where,
            value,
        )


def bf16_on_cpu(case: RunContext) -> Iterator[Finding]:
    """Tell that bf16 on the CPU is slow where the CPU has no instructions for it."""
    slow = not case.machine.fast_bf16
    if case.plan.device == "cpu" and case.plan.precision == "bf16" and slow:
        yield Finding(
            "note",
            "bf16-on-cpu",
            "bf16 on the CPU halves the memory; it is slow on this one, which has no instructions "
            "for it.",
            "Switch bf16 off if the updates turn out slow.",
            *_precision_setting(case),
        )


def vram_held(case: RunContext) -> Iterator[Finding]:
    """Tell how much of the card other programs hold."""
    held = case.gpu.other_gib if case.gpu else None
    if held is not None and held >= HELD_GIB:
        yield Finding(
            "note",
            "vram-held",
            f"Other programs hold {held:.1f} GiB of the GPU.",
            "Close browsers, games or chats that use the GPU to free it.",
        )


def profile_differs(case: RunContext) -> Iterator[Finding]:
    """Tell when the settings were prefilled for another class of machine."""
    detected, reason = choose_profile(case.machine, case.config.hardware.gpu_index)
    if detected != case.config.compute_specs:
        yield Finding(
            "note",
            "profile-differs",
            f"The profile is {case.config.compute_specs}, but this machine is {detected}: {reason}",
            "Keep it if the memory estimate fits.",
            "compute_specs",
            detected,
        )


def _precision_setting(case: RunContext) -> tuple[str, object]:
    for where in ("bf16", "fp16"):
        if getattr(case.config, where):
            return where, False
    return "hardware.precision", "auto"
