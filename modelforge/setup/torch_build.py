"""Which build of torch suits a machine: from system, driver and card to pip arguments."""

from __future__ import annotations

import shlex

TORCH = "torch==2.13.0"
VISION = "torchvision==0.28.0"
INDEX = "https://download.pytorch.org/whl/"
Version = tuple[int, ...]

# CUDA build → oldest Windows driver, oldest and newest compute capability it has kernels for.
# torch 2.13 comes for CUDA 12.6, 13.0 and 13.2; 13.2 brings us nothing over 13.0.
BUILDS: dict[str, tuple[Version, Version, Version]] = {
    "cu130": ((580,), (7, 5), (99, 0)),
    "cu126": ((528, 33), (5, 0), (9, 0)),
}


class NoBuildError(Exception):
    """There is no torch for this machine; the text says so to people."""


def torch_arguments(
    system: str,
    machine: str,
    driver_version: str | None,
    override: str | None = None,
    *,
    capability: Version | None = None,
) -> list[str]:
    """Return what to give `pip install` for the right torch; an override is taken as it stands.

    On Windows with an NVIDIA card it comes from PyTorch's own index, without its dependencies:
    those come with the project, at the versions that were tested.
    """
    if override:
        return shlex.split(override, posix=system != "Windows")
    if system == "Darwin" and machine == "x86_64":
        raise NoBuildError("PyTorch 2.13 is not made for Macs with an Intel processor")
    build = cuda_build(driver_version, capability) if system == "Windows" else None
    return [TORCH, "--no-deps", "--index-url", INDEX + build] if build else [TORCH]


def vision_arguments(torch: list[str]) -> list[str]:
    """Return what to give `pip install` for the torchvision of this torch; empty for PyPI's.

    Unsloth needs it, and one of another build does not load.
    """
    if "--index-url" not in torch[:-1]:
        return []
    return [VISION, "--no-deps", "--index-url", torch[torch.index("--index-url") + 1]]


def cuda_build(driver_version: str | None, capability: Version | None = None) -> str | None:
    """Return the newest CUDA build that driver and card can run, or None for the CPU build."""
    driver = parse_version(driver_version)
    if not driver:
        return None
    for build, (oldest_driver, oldest_card, newest_card) in BUILDS.items():
        suits_card = capability is None or oldest_card <= capability <= newest_card
        if driver >= oldest_driver and suits_card:
            return build
    return None


def parse_version(text: str | None) -> Version:
    """Return the leading numbers of a version, `(580, 88)` for "580.88"; empty when unknown."""
    numbers: list[int] = []
    for part in (text or "").strip().split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
