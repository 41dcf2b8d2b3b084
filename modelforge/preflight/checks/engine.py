"""Checks of the training engine: installation, machine, and what it leaves out."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from modelforge.config.engines import (
    CAPABILITY_FROM,
    PROCESSORS,
    SYSTEM,
    VARIABLE,
    find_surogate,
    uses_surogate,
)
from modelforge.errors import Finding, blocker, note
from modelforge.preflight.context import RunContext

WHERE, INSTEAD = "hardware.engine", "inprocess"
PAGE = "github.com/invergent-ai/surogate/releases"


def engine_ready(context: RunContext) -> Iterator[Finding]:
    """Refuse Surogate where it cannot run or is not installed."""
    if not uses_surogate(context.config):
        return
    if why := _why_unsupported(context):
        what, remedy = f"Surogate {why}", "Choose the engine inprocess."
        yield blocker("engine-unsupported", what, remedy, WHERE, INSTEAD)
    elif not find_surogate():
        yield blocker(
            "engine-missing",
            "Surogate is not installed: its program is not on the PATH.",
            f"Install it into an environment of its own ({PAGE}) and set {VARIABLE} to its "
            "program or that environment, or choose the engine inprocess.",
            WHERE,
            INSTEAD,
        )


def engine_estimates(context: RunContext) -> Iterator[Finding]:
    """Note that the estimates are those of the training of ModelForge."""
    if uses_surogate(context.config):
        yield note(
            "engine-estimates",
            "Memory and time are estimated for ModelForge's own training; Surogate has other "
            "kernels, and differs.",
            "Its first steps show its speed.",
            WHERE,
        )


def _why_unsupported(context: RunContext) -> str:
    machine, capability = context.machine, context.compute_capability
    if not machine.system.startswith(SYSTEM) or platform.machine().lower() not in PROCESSORS:
        return f"runs on Linux on x86-64; this computer has {machine.system}."
    if context.plan.device != "cuda":
        return f"needs an NVIDIA GPU; this run uses the device {context.plan.device}."
    if capability is not None and capability < CAPABILITY_FROM:
        needed, has = (".".join(map(str, each)) for each in (CAPABILITY_FROM, capability))
        return f"needs compute capability {needed}; this GPU has {has}."
    return ""
