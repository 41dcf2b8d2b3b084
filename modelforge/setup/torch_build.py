"""The torch build: which one to install, and whether the installed one can use a GPU."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

TORCH = "torch==2.13.0"
VISION = "torchvision==0.28.0"
INDEX = "https://download.pytorch.org/whl/"
CHOOSE_BUILD = "Run `python launch.py setup --torch auto`."
Version = tuple[int, ...]


@dataclass(frozen=True)
class Build:
    """A CUDA build of torch, with the oldest and newest compute capability it has kernels for."""

    cuda: Version
    oldest_gpu: Version
    newest_gpu: Version


# torch 2.13 comes for CUDA 12.6, 13.0 and 13.2; 13.2 has no advantage over 13.0. Newest first.
BUILDS = {
    "cu130": Build((13, 0), (7, 5), (99, 0)),
    "cu126": Build((12, 6), (5, 0), (9, 0)),
}
# On Linux, PyPI has this build.
PYPI_BUILD = "cu130"
# The oldest driver on Windows and elsewhere; drivers run all versions of a major CUDA version.
DRIVERS: dict[int, tuple[Version, Version]] = {
    13: ((580,), (580,)),
    12: ((528, 33), (525, 60)),
}


class NoBuildError(Exception):
    """There is no torch build for this machine. The message is for the user."""


def torch_arguments(
    system: str,
    machine: str,
    driver_version: str | None,
    override: str | None = None,
    *,
    capabilities: Iterable[Version] = (),
) -> list[str]:
    """Return the arguments of `pip install` for torch. An override is used unchanged.

    A build from the PyTorch index is installed without dependencies. These are installed with the
    project, at tested versions.
    """
    if override:
        return shlex.split(override, posix=system != "Windows")
    if system == "Darwin" and machine == "x86_64":
        raise NoBuildError("PyTorch 2.13 does not support Macs with an Intel processor")
    build = choose_build(system, driver_version, capabilities)
    if build is None or (build == PYPI_BUILD and system != "Windows"):
        return [TORCH]
    return [TORCH, "--no-deps", "--index-url", INDEX + build]


def torchvision_arguments(torch_version: str, override: str | None = None) -> list[str]:
    """Return the arguments of `pip install` for the torchvision of an installed torch.

    Unsloth needs torchvision, and that of another build does not load. Empty if the matching
    version is unknown.
    """
    version, _, build = torch_version.partition("+")
    if f"torch=={version}" != TORCH:
        return []
    override_arguments = shlex.split(override or "")
    if "--index-url" in override_arguments[:-1]:
        index = override_arguments[override_arguments.index("--index-url") + 1]
    else:
        index = INDEX + build if build else ""
    return [VISION, "--no-deps", "--force-reinstall", *(["--index-url", index] if index else [])]


def choose_build(
    system: str, driver_version: str | None, capabilities: Iterable[Version] = ()
) -> str | None:
    """Return the best CUDA build for the driver and the GPUs, or None for the CPU build.

    That is one for the newest GPU, among these the one for the most GPUs, then the newest one.
    """
    driver, known = parse_version(driver_version), sorted(filter(None, capabilities))
    if not driver or system == "Darwin":
        return None
    suitable = {
        name: [_has_kernels(build, capability) for capability in known]
        for name, build in BUILDS.items()
        if driver >= oldest_driver(system, build.cuda)
    }
    usable = {name: gpus for name, gpus in suitable.items() if all(gpus[-1:])}
    return max(usable, key=lambda name: sum(usable[name]), default=None)


def gpu_problem(
    cuda: str | None,
    system: str,
    driver: str | None,
    gpus: Sequence[tuple[str, Version | None]],
    index: int = 0,
) -> tuple[str, str] | None:
    """Return why a torch build cannot use a GPU, and the remedy; None if it can or is unknown.

    Args:
        cuda: the CUDA version of the build, empty without CUDA, None if unknown.
        system: the operating system.
        driver: the version of the NVIDIA driver.
        gpus: name and compute capability of each GPU of this machine.
        index: the place of the GPU among them.
    """
    version, needed = parse_version(cuda), oldest_driver(system, parse_version(cuda))
    installed = parse_version(driver)
    name, capability = gpus[index]
    if cuda is None:
        return None
    if not version:
        what = f"The installed torch has no CUDA, so {name} is not used."
    elif installed and installed < needed:
        minimum = ".".join(map(str, needed))
        what = f"torch with CUDA {cuda} needs NVIDIA driver {minimum}; {driver} is installed."
    elif capability and not _has_kernels(_known_build(version), capability):
        number = ".".join(map(str, capability))
        what = f"torch with CUDA {cuda} has no kernels for {name} (compute capability {number})."
    else:
        return None
    best = choose_build(system, driver, [each for _, each in gpus if each])
    return what, _remedy(version, BUILDS[best] if best else None, capability)


def oldest_driver(system: str, cuda: Version) -> Version:
    """Return the oldest NVIDIA driver for a CUDA version; empty if unknown."""
    on_windows, elsewhere = DRIVERS.get(cuda[0] if cuda else 0, ((), ()))
    return on_windows if system.startswith("Windows") else elsewhere


def read_cuda_version(torch: Path) -> str | None:
    """Return the CUDA version of the torch in a folder, empty without CUDA; None without torch."""
    try:
        text = (torch / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r"^cuda\s*(?::[^=]+)?=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return version[1] if version else ""


def parse_version(text: str | None) -> Version:
    """Return the leading numbers of a version: (580, 88) for "580.88"; empty if unknown."""
    numbers: list[int] = []
    for part in (text or "").strip().split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _known_build(cuda: Version) -> Build | None:
    return next((build for build in BUILDS.values() if build.cuda == cuda), None)


def _has_kernels(build: Build | None, capability: Version) -> bool:
    return build is None or build.oldest_gpu <= capability <= build.newest_gpu


def _remedy(cuda: Version, best: Build | None, capability: Version | None) -> str:
    if best is not None:
        if best.cuda != cuda and (not capability or _has_kernels(best, capability)):
            return CHOOSE_BUILD
        return "Choose another GPU, or the device cpu."
    if capability and capability < min(build.oldest_gpu for build in BUILDS.values()):
        return "PyTorch does not support this GPU any more; choose the device cpu."
    return "Update the NVIDIA driver to 580 or newer, or choose the device cpu."
