"""The hardware of this computer, probed at most once every five seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from modelforge.config.visible_gpu import visible_gpu
from modelforge.hardware import machine as hardware
from modelforge.hardware.machine import Machine
from modelforge.paths import Home

CACHE_S = 5.0


class MachineService:
    """Probe the hardware and cache the result. Thread-safe."""

    def __init__(
        self,
        home: Home,
        probe: Callable[[Path], Machine] | None = None,
        *,
        is_chat_loaded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._root = home.root
        self._probe = probe
        self._is_chat_loaded = is_chat_loaded
        self._cached: tuple[float, Machine] | None = None
        self._lock = threading.Lock()

    def current(self, *, refresh: bool = False) -> Machine:
        """Return the hardware, its free memory and free disk space, at most five seconds old."""
        with self._lock:
            now = time.monotonic()
            if refresh or self._cached is None or now - self._cached[0] > CACHE_S:
                self._cached = (now, (self._probe or hardware.probe_machine)(self._root))
            return self._cached[1]

    def warm_environment(self) -> dict[str, str]:
        """Return the variables for the warm worker, which may initialize CUDA with its imports.

        They leave the default GPU visible, or none that the installed torch cannot use: there some
        imports raise, and questions about data need no GPU.
        """
        machine = self.current()
        if not machine.gpus:
            return {}
        is_usable = hardware.gpu_problem(machine, machine.gpus[0]) is None
        return visible_gpu(0 if is_usable else None)

    def for_run(self, *, refresh: bool = False) -> Machine:
        """Return the hardware as a run finds it: its start ends the chat process."""
        machine = self.current(refresh=refresh)
        return machine.when_children_end() if self._is_chat_loaded() else machine
