"""What preflight says of the provider: is it here, does it run on this machine, does it suit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from modelforge.errors import Finding
from modelforge.hardware.machine import Gpu, Machine
from modelforge.preflight.context import RunContext

METHODS = ("sft", "dpo")
INSTALL = "Run `python launch.py setup --with unsloth`, or install it on the Machine page"
OTHERWISE = "choose the provider huggingface"


def provider_ready(case: RunContext) -> Iterator[Finding]:
    """Refuse Unsloth where it is absent, broken or cannot run, and offer the other provider."""
    if case.config.provider != "unsloth":
        return
    standing = unsloth_status(case.machine, case.gpu, device=case.plan.device)
    remedies = {
        "absent": f"{INSTALL}, or {OTHERWISE}.",
        "broken": f"{INSTALL} again, or {OTHERWISE}.",
        "unsupported": f"{OTHERWISE.capitalize()}.",
    }
    if standing.state in remedies:
        yield Finding(
            "blocker",
            f"provider-{standing.state}",
            standing.message,
            remedies[standing.state],
            "provider",
            "huggingface",
        )


def provider_suits(case: RunContext) -> Iterator[Finding]:
    """Refuse a way of training that Unsloth is not used for here."""
    if case.config.provider == "unsloth" and case.plan.method not in METHODS:
        yield Finding(
            "blocker",
            "provider-unsuited",
            f"Unsloth trains by sft, qlora and dpo here; this run is {case.plan.method}.",
            f"{OTHERWISE.capitalize()}, or another strategy.",
            "provider",
            "huggingface",
        )


def attention_unused(case: RunContext) -> Iterator[Finding]:
    """Tell that Unsloth computes attention in its own way, whatever was chosen."""
    model = case.config.model
    if case.config.provider == "unsloth" and "attn_implementation" in model.model_fields_set:
        yield Finding(
            "note",
            "attention-unused",
            f"Unsloth chooses how attention is computed; {model.attn_implementation} is not used.",
            f"To have it, {OTHERWISE}.",
            "model.attn_implementation",
        )


def provider_untested(case: RunContext) -> Iterator[Finding]:
    """Tell of an Unsloth other than the one that was tested with the rest."""
    has = unsloth_version() if case.config.provider == "unsloth" else None
    if has is not None and has != TESTED:
        yield Finding(
            "note",
            "provider-untested",
            f"Unsloth {has} is installed; {TESTED} is the version tested with the rest.",
            "Run `python launch.py setup --with unsloth` if a run fails.",
            "provider",
        )


State = Literal["ready", "absent", "broken", "unsupported"]
TESTED = "2026.10.6"
PACKAGES = ("unsloth", "unsloth_zoo")
CAPABILITY_FROM = (7, 0)
# What Unsloth shares with us, and is particular about.
STACK = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "bitsandbytes")
Version = Callable[[str], str]


@dataclass(frozen=True)
class ProviderStatus:
    """How a provider stands on this computer: its state, and why, in a sentence."""

    state: State
    message: str


def unsloth_status(machine: Machine, gpu: Gpu | None, *, device: str = "cuda") -> ProviderStatus:
    """Return how Unsloth stands on a machine, on the card that is to be used. Imports nothing."""
    if reason := _cannot_run(machine, gpu, device):
        return ProviderStatus("unsupported", reason)
    if not find_spec("unsloth"):
        return ProviderStatus("absent", "Unsloth is not installed.")
    if reason := find_broken_package():
        return ProviderStatus("broken", reason)
    return ProviderStatus("ready", f"Unsloth {unsloth_version()} is installed.")


def unsloth_version() -> str | None:
    """Return the version that is installed, or None."""
    try:
        return metadata.version("unsloth")
    except metadata.PackageNotFoundError:
        return None


def find_broken_package(
    version: Version = metadata.version,
    requires: Callable[[str], list[str] | None] = metadata.requires,
) -> str:
    """Say which package is missing or of a version that Unsloth cannot work with, or nothing."""
    for package in PACKAGES:
        try:
            version(package)
        except metadata.PackageNotFoundError:
            return f"{package} is not completely installed."
        for needed in map(_requirement, requires(package) or []):
            if needed is None or (needed.marker and not needed.marker.evaluate({"extra": ""})):
                continue
            try:
                has = version(needed.name)
            except metadata.PackageNotFoundError:
                return f"{package} needs {needed.name}, which is not installed."
            compared = needed.name in (*STACK, *PACKAGES)
            if compared and not needed.specifier.contains(has, prereleases=True):
                return f"{package} needs {needed.name}{needed.specifier}, and this is {has}."
    return ""


def _cannot_run(machine: Machine, gpu: Gpu | None, device: str) -> str:
    if not machine.gpus:
        here = "Apple GPU" if machine.apple_gpu else "CPU"
        return f"Unsloth needs an NVIDIA GPU; this computer trains on the {here}."
    if device != "cuda":
        return f"Unsloth needs an NVIDIA GPU; this run uses the {device}."
    capability = gpu.compute_capability if gpu else None
    if gpu and capability and capability < CAPABILITY_FROM:
        return (
            f"Unsloth needs compute capability 7.0; {gpu.name} has {capability[0]}.{capability[1]}."
        )
    return ""


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None
