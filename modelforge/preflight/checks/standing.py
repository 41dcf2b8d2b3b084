"""How the provider Unsloth stands on this computer: ready, absent, broken or unsupported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from modelforge.hardware.machine import Gpu, Machine

State = Literal["ready", "absent", "broken", "unsupported"]
TESTED = "2026.10.6"
PACKAGES = ("unsloth", "unsloth_zoo")
CAPABILITY_FROM = (7, 0)
# What Unsloth shares with us, and is particular about.
STACK = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "bitsandbytes")
Version = Callable[[str], str]


@dataclass(frozen=True)
class Standing:
    """How a provider stands on this computer: its state, and why, in a sentence."""

    state: State
    what: str


def unsloth_standing(machine: Machine, gpu: Gpu | None, *, device: str = "cuda") -> Standing:
    """Return how Unsloth stands on a machine, on the card that is to be used. Imports nothing."""
    if reason := _cannot_run(machine, gpu, device):
        return Standing("unsupported", reason)
    if not find_spec("unsloth"):
        return Standing("absent", "Unsloth is not installed.")
    if reason := what_is_broken():
        return Standing("broken", reason)
    return Standing("ready", f"Unsloth {unsloth_version()} is installed.")


def unsloth_version() -> str | None:
    """Return the version that is installed, or None."""
    try:
        return metadata.version("unsloth")
    except metadata.PackageNotFoundError:
        return None


def what_is_broken(
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
