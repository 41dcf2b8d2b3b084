"""Choose the torch build for a machine, as pip arguments."""

from __future__ import annotations

import shlex

TORCH = "torch==2.13.0"
VISION = "torchvision==0.28.0"
INDEX = "https://download.pytorch.org/whl/"
Version = tuple[int, ...]

# CUDA build: oldest Windows driver, oldest and newest compute capability it supports.
# torch 2.13 comes for CUDA 12.6, 13.0 and 13.2; 13.2 has no advantage over 13.0.
BUILDS: dict[str, tuple[Version, Version, Version]] = {
    "cu130": ((580,), (7, 5), (99, 0)),
    "cu126": ((528, 33), (5, 0), (9, 0)),
}


class NoBuildError(Exception):
    """There is no torch build for this machine. The message is for the user."""


def torch_arguments(
    system: str,
    machine: str,
    driver_version: str | None,
    override: str | None = None,
    *,
    capability: Version | None = None,
) -> list[str]:
    """Return the arguments of `pip install` for torch. An override is used unchanged.

    On Windows with an NVIDIA GPU, torch comes from the PyTorch index, without dependencies. These
    are installed with the project, at tested versions.
    """
    if override:
        return shlex.split(override, posix=system != "Windows")
    if system == "Darwin" and machine == "x86_64":
        raise NoBuildError("PyTorch 2.13 does not support Macs with an Intel processor")
    build = cuda_build(driver_version, capability) if system == "Windows" else None
    return [TORCH, "--no-deps", "--index-url", INDEX + build] if build else [TORCH]


def torchvision_arguments(torch: list[str]) -> list[str]:
    """Return the arguments of `pip install` for the matching torchvision; empty for PyPI builds.

    Unsloth needs torchvision, and another build does not load.
    """
    if "--index-url" not in torch[:-1]:
        return []
    return [VISION, "--no-deps", "--index-url", torch[torch.index("--index-url") + 1]]


def cuda_build(driver_version: str | None, capability: Version | None = None) -> str | None:
    """Return the newest CUDA build that driver and GPU support, or None for the CPU build."""
    driver = parse_version(driver_version)
    if not driver:
        return None
    for build, (oldest_driver, oldest_gpu, newest_gpu) in BUILDS.items():
        supports_gpu = capability is None or oldest_gpu <= capability <= newest_gpu
        if driver >= oldest_driver and supports_gpu:
            return build
    return None


def parse_version(text: str | None) -> Version:
    """Return the leading numbers of a version: (580, 88) for "580.88"; empty if unknown."""
    numbers: list[int] = []
    for part in (text or "").strip().split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
