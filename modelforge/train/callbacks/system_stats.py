"""CPU and GPU load of the machine, and the memory of this process."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pynvml
import torch

from modelforge.units import GIB

INTERVAL_S = 1.0
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Lower and upper bound of the memory of a CUDA context; more belongs to other processes.
CONTEXT_GIB = (0.2, 1.0)


class SystemStats:
    """Reads the load fields of a step event; unknown ones are None.

    `cpu_percent` and `gpu_percent` are of the machine; `ram_gib` and `vram_gib` are of this
    process, so that they can be compared with the memory estimate.
    """

    def __init__(self, device: str) -> None:
        self._on_cuda = device == "cuda"
        self._read_at = 0.0
        self._newest: dict[str, Any] = {}
        self._process = psutil.Process()
        psutil.cpu_percent(None)  # the first result is always 0.0

    def read(self) -> dict[str, Any]:
        """Return the values, at most a second old."""
        now = time.monotonic()
        if not self._newest or now - self._read_at >= INTERVAL_S:
            self._read_at = now
            gpu_percent, vram_gib = _gpu_stats() if self._on_cuda else (None, None)
            self._newest = {
                "cpu_percent": psutil.cpu_percent(None),
                "ram_gib": round(self._process.memory_info().rss / GIB, 2),
                "gpu_percent": gpu_percent,
                "vram_gib": vram_gib,
            }
        return self._newest


def _gpu_stats() -> tuple[float | None, float | None]:
    used = round(torch.cuda.max_memory_reserved() / GIB, 2)
    try:
        return float(torch.cuda.utilization()), used
    except (pynvml.NVMLError, RuntimeError, ImportError, OSError):  # no NVML, or not supported
        return None, used


def synchronized_time(device: str) -> float:
    """Return the clock in seconds once the device has done what it was given.

    GPUs run asynchronously: without this, a time is that of launching the work.
    """
    if device in ("cuda", "mps"):
        getattr(torch, device).synchronize()
    return time.perf_counter()


def reset_peak() -> None:
    """Reset the peak of resident memory where possible: a warm worker has an earlier one."""
    # Linux: "5" resets the peak resident set size (man 5 proc_pid_clear_refs).
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


def peak_gib(device: str) -> float:
    """Return the peak memory of this process on the training device, CUDA context included."""
    if device == "cuda":
        return _peak_on_cuda()
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / GIB
    on_windows = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if on_windows is not None:
        return float(on_windows) / GIB
    import resource  # noqa: PLC0415  (POSIX only)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / GIB


def _peak_on_cuda() -> float:
    free, total = torch.cuda.mem_get_info()
    lower, upper = CONTEXT_GIB
    unreserved = (total - free - torch.cuda.memory_reserved()) / GIB
    return torch.cuda.max_memory_reserved() / GIB + min(upper, max(lower, unreserved))
