"""How hard the machine works while it trains, looked at no more than once a second."""

from __future__ import annotations

import time
from typing import Any

import psutil
import torch

GIB = 2**30
EVERY_S = 1.0


class Pulse:
    """Gives the four load numbers of a step event; unknown ones are None."""

    def __init__(self, device: str) -> None:
        self._on_cuda = device == "cuda"
        self._taken = 0.0
        self._last: dict[str, Any] = {}
        psutil.cpu_percent(None)  # the first answer is always 0.0

    def take(self) -> dict[str, Any]:
        """Return the newest numbers, at most a second old."""
        now = time.monotonic()
        if not self._last or now - self._taken >= EVERY_S:
            self._taken = now
            self._last = self._look()
        return self._last

    def _look(self) -> dict[str, Any]:
        memory = psutil.virtual_memory()
        gpu_percent, vram_gib = self._look_at_gpu() if self._on_cuda else (None, None)
        return {
            "cpu_percent": psutil.cpu_percent(None),
            "ram_gib": round((memory.total - memory.available) / GIB, 2),
            "gpu_percent": gpu_percent,
            "vram_gib": vram_gib,
        }

    def _look_at_gpu(self) -> tuple[float | None, float | None]:
        free, total = torch.cuda.mem_get_info()
        used = round((total - free) / GIB, 2)
        try:
            return float(torch.cuda.utilization()), used
        except (RuntimeError, ImportError, OSError):  # NVML is absent or says nothing
            return None, used
