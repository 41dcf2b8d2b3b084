"""How hard the machine works while it trains, and what the worker holds, once a second at most."""

from __future__ import annotations

import time
from typing import Any

import psutil
import torch

GIB = 2**30
EVERY_S = 1.0


class Pulse:
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
