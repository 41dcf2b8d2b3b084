"""Probe this computer: GPUs, memory, processor and disk; values that cannot be read are None."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import psutil

from modelforge.config.profiles import Profile, load_profiles
from modelforge.config.providers import PROVIDER_PACKAGES
from modelforge.config.schema.base import Gib, about
from modelforge.config.schema.runtime import TRACKERS
from modelforge.hardware.nvidia import Gpu, NvmlClient
from modelforge.setup import torch_build
from modelforge.setup.system_checks import find_build_tools
from modelforge.units import GIB, human_gib

if sys.platform == "win32":
    import winreg

CPP_COMPILERS = ("c++", "g++", "clang++", "cl")
OPTIONAL_PACKAGES = (
    "torchao",
    "fouroversix",
    "xllamacpp",
    "flash_attn",
    "flash_attn_interface",
    "triton",
    "kernels",
    "opacus",
    "deepspeed",
    *PROVIDER_PACKAGES,
    *TRACKERS,
)
# Instructions with which bf16 is faster than fp32, as /proc/cpuinfo names them, and those without
# which PyTorch multiplies bf16 number by number.
BF16_FLAGS = ("avx512_bf16", "amx_bf16")
BF16_NEEDS = "avx512bw"
_CPUINFO = Path("/proc/cpuinfo")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Machine:
    """This computer; unknown values are None.

    The packages `c++`, `cc` and `Python.h` stand for what compiles kernels. `torch_cuda` is the
    CUDA version of the installed torch, empty without CUDA.
    """

    system: str
    python: str
    cpu: str
    cores: int | None
    ram_total_gib: Gib
    ram_free_gib: Gib
    disk_free_gib: Gib
    disk_total_gib: Gib
    gpus: Annotated[list[Gpu], about("The visible NVIDIA GPUs.")]
    gpu_note: Annotated[str, about("Why no GPU is available; empty if one is.")]
    apple_gpu: bool
    packages: Annotated[
        tuple[str, ...], about("Installed optional packages that some settings need.")
    ] = ()
    cpu_flags: Annotated[tuple[str, ...], about("CPU instructions that bf16 uses.")] = ()
    torch_cuda: Annotated[
        str | None,
        about("The CUDA version of the installed torch, empty without CUDA; null if unknown."),
    ] = None
    nodes: Annotated[
        int, about("Computers that train a run together; `gpus` are those of all, the rest of one.")
    ] = 1

    @property
    def fast_bf16(self) -> bool:
        """Whether bf16 is known to be faster than fp32 on the processor."""
        return any(flag in BF16_FLAGS for flag in self.cpu_flags)

    @property
    def slow_bf16(self) -> bool:
        """Whether bf16 is known to be slower than fp32; only Linux tells the instructions."""
        return not self.fast_bf16 and self.system.startswith("Linux")

    @property
    def has_no_bf16(self) -> bool:
        """Whether the processor is known to have no instructions that bf16 uses."""
        return self.slow_bf16 and not self.cpu_flags

    @property
    def device(self) -> Literal["cuda", "mps", "cpu"]:
        """The device on which training runs by default."""
        if self.gpus:
            return "cuda"
        return "mps" if self.apple_gpu else "cpu"

    @property
    def practice_mode(self) -> bool:
        """Whether there is no CUDA GPU, so that small models train in full precision."""
        return not self.gpus

    def when_idle(self) -> Machine:
        """Return the computer with all of its memory free."""
        gpus = [replace(gpu, free_gib=gpu.total_gib, other_gib=0.0) for gpu in self.gpus]
        return replace(self, gpus=gpus, ram_free_gib=self.ram_total_gib)

    def when_children_end(self) -> Machine:
        """Return the computer without the GPU memory of our children.

        Where the driver does not tell who uses the memory, all of it is taken to be theirs.
        """
        if self.tells_own_memory:
            return replace(self, gpus=[_without_own(gpu) for gpu in self.gpus])
        gpus = [replace(gpu, free_gib=gpu.total_gib, other_gib=None) for gpu in self.gpus]
        return replace(self, gpus=gpus)

    @property
    def tells_own_memory(self) -> bool:
        """Whether the driver tells how much memory our children use, given that they use some."""
        return any(gpu.own_gib for gpu in self.gpus)


def probe_machine(
    home_root: Path,
    timeout_s: float = 2.0,
    *,
    nvidia: NvmlClient | None = None,
    environ: Mapping[str, str] | None = None,
) -> Machine:
    """Return this computer within `timeout_s`, without GPUs hidden by CUDA_VISIBLE_DEVICES."""
    visible = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    client = nvidia or NvmlClient()
    # Less than the whole time, so that a GPU that hangs does not hide the others.
    gpu_call = _TimedCall(lambda: client.gpus(timeout_s * 0.8, visible))
    ram_call = _TimedCall(psutil.virtual_memory)
    disk_call = _TimedCall(lambda: shutil.disk_usage(_existing(home_root)))
    cpu_call = _TimedCall(cpu_name)
    deadline = time.monotonic() + timeout_s
    gpus, note = gpu_call.result(deadline) or ([], _TIMEOUT_NOTE)
    ram, disk = ram_call.result(deadline), disk_call.result(deadline)
    is_apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return Machine(
        system=_system(),
        python=platform.python_version(),
        cpu=cpu_call.result(deadline) or "",
        cores=_cores(),
        ram_total_gib=ram.total / GIB if ram else None,
        ram_free_gib=ram.available / GIB if ram else None,
        disk_free_gib=disk.free / GIB if disk else None,
        disk_total_gib=disk.total / GIB if disk else None,
        gpus=gpus,
        gpu_note=_APPLE_NOTE if is_apple and not gpus else note,
        apple_gpu=is_apple,
        packages=_packages(),
        cpu_flags=bf16_flags(),
        torch_cuda=torch_cuda_version(),
    )


def choose_profile(
    machine: Machine, gpu_index: int = 0, own: Path | None = None
) -> tuple[str, str]:
    """Return the name of the profile that suits the machine, and the reason in a sentence.

    `own` is the folder of the user's profiles: those with a threshold are chosen too.
    """
    profiles = load_profiles(own).values()
    bounded = [(one.min_vram_gib, one) for one in profiles if one.min_vram_gib is not None]
    smallest = [profile for bound, profile in bounded if bound == 0][-1]
    if not machine.gpus:
        device = "the Apple GPU" if machine.apple_gpu else "the CPU"
        reason = f"No NVIDIA GPU: {_title(smallest)} with short runs of small models on {device}."
        return smallest.name, reason
    gpu = next((gpu for gpu in machine.gpus if gpu.index == gpu_index), machine.gpus[0])
    total = gpu.total_gib
    if total is None:
        return smallest.name, f"The memory of {gpu.name} is unknown: {_title(smallest)}."
    suitable = [profile for bound, profile in bounded if total >= bound]
    profile = suitable[-1]
    memory = f"{_format_gib(total, [bound for bound, _ in bounded])} of GPU memory"
    ram, needed = machine.ram_total_gib, profile.min_ram_gib
    if len(suitable) > 1 and (ram is None or ram < needed):
        found = "unknown RAM" if ram is None else f"only {_format_gib(ram, [needed])} of RAM"
        lower = suitable[-2]
        needs = f"{_title(profile)} needs {human_gib(needed)}"
        return lower.name, f"{memory} but {found}, and {needs}: {_title(lower)}."
    if ram is not None:
        memory += f" and {_format_gib(ram, [needed])} of RAM"
    return profile.name, f"{memory}: {_title(profile)}."


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _without_own(gpu: Gpu) -> Gpu:
    if gpu.total_gib is None or gpu.free_gib is None or not gpu.own_gib:
        return gpu
    return replace(gpu, free_gib=min(gpu.total_gib, gpu.free_gib + gpu.own_gib), own_gib=0.0)


_TIMEOUT_NOTE = "The NVIDIA driver did not answer in time. Restart the computer."
_APPLE_NOTE = "Small models train on the Apple GPU; 4-bit weights need an NVIDIA GPU."


class _TimedCall(Generic[Result]):
    """A call in a thread of its own, which may never return."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._results: list[Result] = []
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def result(self, deadline: float) -> Result | None:
        """Return the result; None if the call failed or has not returned by the deadline."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return self._results[0] if self._results else None

    def _run(self, call: Callable[[], Result]) -> None:
        try:
            self._results.append(call())
        except (OSError, ValueError, psutil.Error):
            return


def _existing(folder: Path) -> Path:
    return next((part for part in (folder, *folder.parents) if part.exists()), folder)


def _title(profile: Profile) -> str:
    return profile.title.lower()


def _format_gib(value: float, bounds: list[float]) -> str:
    """Return the value with the fewest decimals that keep it on its side of every bound."""
    for decimals in (1, 2, 3):
        text = f"{value:.{decimals}f}"
        if all((float(text) >= bound) == (value >= bound) for bound in bounds):
            return f"{text} GiB"
    return f"{value} GiB"


def _system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}".strip()
    name = f"{platform.system()} {platform.release()}".strip()
    return f"{name} (WSL)" if "microsoft" in platform.release().lower() else name


def _cores() -> int | None:
    if sys.platform != "win32" and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _packages() -> tuple[str, ...]:
    names = tuple(name for name in OPTIONAL_PACKAGES if _is_installed(name))
    has_compiler = any(shutil.which(name) for name in CPP_COMPILERS)
    return (*names, *(["c++"] if has_compiler else []), *find_build_tools())


def _is_installed(name: str) -> bool:
    """Return whether a package is installed; a folder of that name, as wandb writes, is not one."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def gpu_problem(machine: Machine, gpu: Gpu) -> tuple[str, str] | None:
    """Return why the installed torch cannot use a GPU, and the remedy; None if it can."""
    gpus = [(each.name, each.compute_capability) for each in machine.gpus]
    index = machine.gpus.index(gpu)
    return torch_build.gpu_problem(machine.torch_cuda, machine.system, gpu.driver, gpus, index)


def torch_cuda_version() -> str | None:
    """Return the CUDA version of the torch build, read from its files without importing it."""
    spec = importlib.util.find_spec("torch")
    folders = (spec.submodule_search_locations or []) if spec else []
    versions = (torch_build.read_cuda_version(Path(folder)) for folder in folders)
    return next((version for version in versions if version is not None), None)


def cpu_name() -> str:
    """Return the name of the processor, or its architecture if the name is unknown."""
    try:
        name = _query_name()
    except (OSError, subprocess.SubprocessError):
        name = ""
    return name or platform.processor() or platform.machine()


@cache
def bf16_flags() -> tuple[str, ...]:
    """Return the instructions that bf16 uses and the processor has; detected on Linux only."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return tuple(flag for flag in (*BF16_FLAGS, BF16_NEEDS) if flag in line.split())


def _query_name() -> str:
    if sys.platform == "win32":
        path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=1, check=True
        ).stdout.strip()
    lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return next(names, "").strip()
