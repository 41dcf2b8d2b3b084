"""What this computer is: GPUs, memory, processor and disk, each "unknown" rather than a crash."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import psutil

from modelforge.config.profiles import Profile, load_profiles
from modelforge.config.schema.runtime import TRACKERS
from modelforge.hardware import cpu as processor
from modelforge.hardware.nvidia import Gpu, NvmlClient
from modelforge.units import GIB

__all__ = [
    "Gpu",
    "LoadMeter",
    "Machine",
    "SystemLoad",
    "choose_profile",
    "current_load",
    "probe_machine",
]

CPP_COMPILERS = ("c++", "g++", "clang++", "cl")
OPTIONAL_PACKAGES = (
    "torchao",
    "flash_attn",
    "flash_attn_interface",
    "triton",
    "unsloth",
    *TRACKERS,
)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Machine:
    """One computer. What could not be found out is None; `gpu_note` says why there is no GPU.

    `packages` are those that some settings need and that are installed; `cpu_flags` those
    instructions of the processor that choose its number format.
    """

    system: str
    python: str
    cpu: str
    cores: int | None
    ram_total_gib: float | None
    ram_free_gib: float | None
    disk_free_gib: float | None
    disk_total_gib: float | None
    gpus: list[Gpu]
    gpu_note: str
    apple_gpu: bool
    packages: tuple[str, ...] = ()
    cpu_flags: tuple[str, ...] = ()

    @property
    def fast_bf16(self) -> bool:
        """Whether the processor is known to multiply in bf16 faster than in fp32."""
        return bool(self.cpu_flags)

    @property
    def device(self) -> Literal["cuda", "mps", "cpu"]:
        """Where training runs unless somebody says otherwise."""
        if self.gpus:
            return "cuda"
        return "mps" if self.apple_gpu else "cpu"

    @property
    def practice_mode(self) -> bool:
        """Whether there is no CUDA card: small models in full precision."""
        return not self.gpus

    def when_idle(self) -> Machine:
        """Return the computer as it would be if nothing ran on it: all of its memory is free."""
        gpus = [replace(gpu, free_gib=gpu.total_gib, other_gib=0.0) for gpu in self.gpus]
        return replace(self, gpus=gpus, ram_free_gib=self.ram_total_gib)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return asdict(self) | {"device": self.device, "practice": self.practice_mode}


@dataclass(frozen=True)
class SystemLoad:
    """How busy the computer is now; None = unknown."""

    cpu_percent: float | None
    ram_used_gib: float | None
    gpu_percent: float | None
    vram_used_gib: float | None


def probe_machine(
    home_root: Path,
    timeout_s: float = 2.0,
    *,
    nvidia: NvmlClient | None = None,
    environ: Mapping[str, str] | None = None,
) -> Machine:
    """Return this computer; all questions together take `timeout_s` at most.

    Cards that CUDA_VISIBLE_DEVICES hides are not listed.
    """
    visible = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    driver = nvidia or NvmlClient()
    # The cards get a little less, so that the one that hangs does not hide the others.
    cards = _TimedCall(lambda: driver.gpus(timeout_s * 0.8, visible))
    ram = _TimedCall(psutil.virtual_memory)
    disk = _TimedCall(lambda: shutil.disk_usage(_existing(home_root)))
    chip = _TimedCall(processor.cpu_name)
    deadline = time.monotonic() + timeout_s
    gpus, note = cards.answer(deadline) or ([], _NO_ANSWER)
    memory, space = ram.answer(deadline), disk.answer(deadline)
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return Machine(
        system=_system(),
        python=platform.python_version(),
        cpu=chip.answer(deadline) or "",
        cores=_cores(),
        ram_total_gib=memory.total / GIB if memory else None,
        ram_free_gib=memory.available / GIB if memory else None,
        disk_free_gib=space.free / GIB if space else None,
        disk_total_gib=space.total / GIB if space else None,
        gpus=gpus,
        gpu_note=_APPLE if apple and not gpus else note,
        apple_gpu=apple,
        packages=_packages(),
        cpu_flags=processor.bf16_flags(),
    )


def choose_profile(machine: Machine, gpu_index: int = 0) -> tuple[str, str]:
    """Return the name of the profile that suits the machine, and the reason in a sentence."""
    profiles = list(load_profiles().values())
    smallest = profiles[0]
    if not machine.gpus:
        on = "the Apple GPU" if machine.apple_gpu else "the CPU"
        why = f"No NVIDIA GPU: {_called(smallest)} in practice mode, with small models on {on}."
        return smallest.name, why
    card = next((gpu for gpu in machine.gpus if gpu.index == gpu_index), machine.gpus[0])
    if card.total_gib is None:
        why = f"The memory of {card.name} could not be read: {_called(smallest)}, to be careful."
        return smallest.name, why
    bounds = [one.min_vram_gib for one in profiles]
    place = sum(card.total_gib >= bound for bound in bounds) - 1
    video = f"{_gib(card.total_gib, bounds)} of video memory"
    ram, needed = machine.ram_total_gib, profiles[place].min_ram_gib
    if place > 0 and (ram is None or ram < needed):
        short = "unknown RAM" if ram is None else f"only {_gib(ram, [needed])} of RAM"
        chosen = profiles[place - 1]
        why = f"{video} but {short}, where {_called(profiles[place])} wants {needed:.1f} GiB"
        return chosen.name, f"{why}: {_called(chosen)}."
    beside = "" if ram is None else f" and {_gib(ram, [needed])} of RAM"
    return profiles[place].name, f"{video}{beside}: {_called(profiles[place])}."


class LoadMeter:
    """Measures how busy the computer is, in under 5 ms; gives up on a driver that hangs."""

    def __init__(self, nvidia: NvmlClient | None = None, timeout_s: float = 0.5) -> None:
        self._nvidia: NvmlClient | None = nvidia or NvmlClient()
        self._patience_s = timeout_s
        # The first reading only sets the start of the interval.
        psutil.cpu_percent(interval=None)

    def read(self, gpu_index: int = 0) -> SystemLoad:
        """Return the load since the last reading."""
        try:
            cpu: float | None = psutil.cpu_percent(interval=None)
            memory = psutil.virtual_memory()
            ram: float | None = (memory.total - memory.available) / GIB
        except (OSError, psutil.Error):
            cpu = ram = None
        busy, used = self._card(gpu_index)
        return SystemLoad(cpu, ram, busy, used)

    def _card(self, gpu_index: int) -> tuple[float | None, float | None]:
        nvidia = self._nvidia
        if nvidia is None:
            return None, None
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        question = _TimedCall(lambda: nvidia.utilization(gpu_index, visible))
        answer = question.answer(time.monotonic() + self._patience_s)
        if answer is None:
            self._nvidia = None
            return None, None
        return answer


def current_load(gpu_index: int = 0) -> SystemLoad:
    """Return how busy the computer has been since the last call."""
    return _meter().read(gpu_index)


_NO_ANSWER = "The NVIDIA driver did not answer in time. Restart the computer, then look again."
_APPLE = "An Apple GPU trains small models here; 4-bit weights want an NVIDIA card."


@cache
def _meter() -> LoadMeter:
    # One a process, because the interval is the time between two calls.
    return LoadMeter()


class _TimedCall(Generic[Result]):
    """Something asked in a thread of its own, because the answer may never come."""

    def __init__(self, ask: Callable[[], Result]) -> None:
        self._answers: list[Result] = []
        self._thread = threading.Thread(target=self._run, args=(ask,), daemon=True)
        self._thread.start()

    def answer(self, deadline: float) -> Result | None:
        """Return the answer, or None when there is none by the deadline."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return self._answers[0] if self._answers else None

    def _run(self, ask: Callable[[], Result]) -> None:
        try:
            self._answers.append(ask())
        except (OSError, ValueError, psutil.Error):
            return


def _existing(folder: Path) -> Path:
    return next((part for part in (folder, *folder.parents) if part.exists()), folder)


def _called(profile: Profile) -> str:
    return profile.title.lower()


def _gib(value: float, bounds: list[float]) -> str:
    """Return the value with one decimal, or as many as keep it on its side of every bound."""
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
    found = tuple(name for name in OPTIONAL_PACKAGES if _is_installed(name))
    return (*found, "c++") if any(shutil.which(name) for name in CPP_COMPILERS) else found


def _is_installed(name: str) -> bool:
    """Say whether a package is there; a mere folder of that name, as wandb makes, is none."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None
