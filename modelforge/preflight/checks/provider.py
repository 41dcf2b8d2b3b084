"""Checks of the provider Unsloth: installation, machine, and supported methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from modelforge.errors import Finding, blocker, caution, note
from modelforge.hardware.machine import Machine, installed_version
from modelforge.hardware.nvidia import Gpu
from modelforge.preflight.context import RunContext
from modelforge.setup.system_checks import missing_build_tools

State = Literal["ready", "absent", "broken", "unsupported"]
TESTED = "2026.10.6"
PACKAGES = ("unsloth", "unsloth_zoo")
CAPABILITY_FROM = (7, 0)
# Packages that Unsloth shares with ModelForge and whose versions it restricts.
STACK = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "bitsandbytes")
INSTALL = "Run `python launch.py setup --with unsloth`, or install it on the Machine page"
OTHERWISE = "choose the provider huggingface"


def provider_ready(context: RunContext) -> Iterator[Finding]:
    """Refuse Unsloth where it is not installed, broken or not supported."""
    if context.config.provider != "unsloth":
        return
    status = unsloth_status(context.machine, context.gpu, device=context.plan.device)
    remedies = {
        "absent": f"{INSTALL}, or {OTHERWISE}.",
        "broken": f"{INSTALL} again, or {OTHERWISE}.",
        "unsupported": f"{OTHERWISE.capitalize()}.",
    }
    if status.state in remedies:
        yield blocker(
            f"provider-{status.state}",
            status.message,
            remedies[status.state],
            "provider",
            "huggingface",
        )


def provider_supports_method(context: RunContext) -> Iterator[Finding]:
    """Refuse a method that Unsloth is not used for."""
    if context.config.provider == "unsloth" and not context.plan.facts.runs_on_unsloth:
        yield blocker(
            "provider-unsuited",
            f"Unsloth is supported for sft, qlora and dpo; this run uses {context.plan.method}.",
            f"{OTHERWISE.capitalize()}, or another strategy.",
            "provider",
            "huggingface",
        )


def attention_unused(context: RunContext) -> Iterator[Finding]:
    """Note that Unsloth ignores the attention implementation."""
    model = context.config.model
    if context.config.provider == "unsloth" and "attn_implementation" in model.model_fields_set:
        yield note(
            "attention-unused",
            f"Unsloth uses its own attention; {model.attn_implementation} is ignored.",
            f"To use it, {OTHERWISE}.",
            "model.attn_implementation",
        )


def precision_changed(context: RunContext) -> Iterator[Finding]:
    """Warn that Unsloth trains in bf16 where fp32 is configured."""
    capability = context.compute_capability
    if context.config.provider != "unsloth" or context.plan.precision != "fp32":
        return
    if capability is not None and capability >= (8, 0):
        yield caution(
            "provider-precision",
            "The precision is fp32, but Unsloth trains in bf16 on this GPU.",
            f"Choose bf16, or {OTHERWISE}.",
            "provider",
            "huggingface",
        )


def provider_untested(context: RunContext) -> Iterator[Finding]:
    """Note a version of Unsloth that has not been tested."""
    version = installed_version("unsloth") if context.config.provider == "unsloth" else None
    if version is not None and version != TESTED:
        yield note(
            "provider-untested",
            f"Unsloth {version} is installed; the tested version is {TESTED}.",
            "Run `python launch.py setup --with unsloth` if a run fails.",
            "provider",
        )


@dataclass(frozen=True)
class ProviderStatus:
    """Whether a provider can be used on this computer, and why, in a sentence."""

    state: State
    message: str


def unsloth_status(machine: Machine, gpu: Gpu | None, *, device: str = "cuda") -> ProviderStatus:
    """Return whether Unsloth can be used on this GPU. Imports nothing."""
    if reason := _why_unsupported(machine, gpu, device):
        return ProviderStatus("unsupported", reason)
    if not find_spec("unsloth"):
        return ProviderStatus("absent", "Unsloth is not installed.")
    if reason := find_broken_package():
        return ProviderStatus("broken", reason)
    return ProviderStatus("ready", f"Unsloth {installed_version('unsloth')} is installed.")


def find_broken_package() -> str:
    """Return which package is missing or has an unsupported version; empty when none."""
    for package in PACKAGES:
        if installed_version(package) is None:
            return f"{package} is not completely installed."
        for needed in map(_requirement, metadata.requires(package) or []):
            if needed is None or (needed.marker and not needed.marker.evaluate({"extra": ""})):
                continue
            installed = installed_version(needed.name)
            if installed is None:
                return f"{package} needs {needed.name}, which is not installed."
            is_checked = needed.name in (*STACK, *PACKAGES)
            if is_checked and not needed.specifier.contains(installed, prereleases=True):
                return f"{package} needs {needed.name}{needed.specifier}; {installed} is installed."
    return ""


def _why_unsupported(machine: Machine, gpu: Gpu | None, device: str) -> str:
    if not machine.gpus:
        device_name = "Apple GPU" if machine.apple_gpu else "CPU"
        return f"Unsloth needs an NVIDIA GPU; this computer trains on the {device_name}."
    if device != "cuda":
        return f"Unsloth needs an NVIDIA GPU; this run uses the {device}."
    capability = gpu.compute_capability if gpu else None
    if gpu and capability and capability < CAPABILITY_FROM:
        return (
            f"Unsloth needs compute capability 7.0; {gpu.name} has {capability[0]}.{capability[1]}."
        )
    return missing_build_tools(machine.packages)


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None
