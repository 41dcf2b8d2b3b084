"""How hard the machine works while it trains, and what the worker holds, once a second at most."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from modelforge.units import GIB

EVERY_S = 1.0


class SystemStats:
    """Gives the four load numbers of a step event; unknown ones are None.

    `cpu_percent` and `gpu_percent` are of the machine; `ram_gib` and `vram_gib` are what this
    process holds, so that they can stand beside the plan.
    """

    def __init__(self, device: str) -> None:
        self._on_cuda = device == "cuda"
        self._taken = 0.0
        self._last: dict[str, Any] = {}
        self._process = psutil.Process()
        psutil.cpu_percent(None)  # the first answer is always 0.0

    def take(self) -> dict[str, Any]:
        """Return the newest numbers, at most a second old."""
        now = time.monotonic()
        if not self._last or now - self._taken >= EVERY_S:
            self._taken = now
            self._last = self._look()
        return self._last

    def _look(self) -> dict[str, Any]:
        gpu_percent, vram_gib = self._look_at_gpu() if self._on_cuda else (None, None)
        return {
            "cpu_percent": psutil.cpu_percent(None),
            "ram_gib": round(self._process.memory_info().rss / GIB, 2),
            "gpu_percent": gpu_percent,
            "vram_gib": vram_gib,
        }

    def _look_at_gpu(self) -> tuple[float | None, float | None]:
        used = round(torch.cuda.max_memory_reserved() / GIB, 2)
        try:
            return float(torch.cuda.utilization()), used
        except (RuntimeError, ImportError, OSError):  # NVML is absent or says nothing
            return None, used


_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# A context holds this much of a card at least and at most; what is beyond belongs to others.
CONTEXT_GIB = (0.2, 1.0)


def reset_peak() -> None:
    """Let the peak of resident memory begin anew, where the system can: a spare has had one."""
    # Linux: "5" resets the peak resident set size (man 5 proc_pid_clear_refs).
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


def peak_gib(device: str) -> float:
    """Return the most memory held where the training lives, its context included."""
    if device == "cuda":
        return _on_cuda()
    for line in _lines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / GIB
    on_windows = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if on_windows is not None:
        return float(on_windows) / GIB
    import resource  # noqa: PLC0415  (POSIX only)

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / GIB


def _lines() -> list[str]:
    try:
        return _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _on_cuda() -> float:
    import torch  # noqa: PLC0415  (there is a card, so it is loaded)

    free, total = torch.cuda.mem_get_info()
    least, most = CONTEXT_GIB
    beside = (total - free - torch.cuda.memory_reserved()) / GIB
    return float(torch.cuda.max_memory_reserved()) / GIB + min(most, max(least, beside))
