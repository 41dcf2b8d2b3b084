"""What the NVIDIA driver says of its cards; a card that hangs or fails hides no other."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from modelforge.units import GIB

_DRIVER_NOT_LOADED, _LIBRARY_NOT_FOUND, _VERSION_MISMATCH = 9, 12, 18


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA card. `index` counts the visible ones; `other_gib` is held by other processes."""

    index: int
    name: str
    total_gib: float | None
    free_gib: float | None
    other_gib: float | None
    compute_capability: tuple[int, int] | None
    driver: str | None
    uuid: str | None = None


class NvmlClient:
    """The driver, through NVML. `library` stands in for the pynvml module."""

    def __init__(self, library: Any = None) -> None:
        self._library = library
        self._ready = False
        self._closed = ""
        self._handles: dict[str | None, list[Any]] = {}

    def gpus(self, timeout_s: float, visible: str | None) -> tuple[list[Gpu], str]:
        """Return the visible cards, and why there are none if so.

        `visible` is CUDA_VISIBLE_DEVICES. Each card is asked in a thread of its own; what one has
        not said after `timeout_s` is unknown.
        """
        note = self._open()
        if note:
            return [], note
        try:
            handles = self._visible(visible)
            driver = self._try(lambda: _text(self._library.nvmlSystemGetDriverVersion()))
            facts = self._describe_all(handles, timeout_s)
        except self._library.NVMLError as error:
            return [], f"The NVIDIA driver answered: {error}."
        gpus = [_card(place, found, driver) for place, found in enumerate(facts)]
        return gpus, "" if gpus else _why_none(visible)

    def utilization(self, index: int, visible: str | None) -> tuple[float | None, float | None]:
        """Return how busy a card is in percent, and the GiB in use."""
        if not self._ready:
            self._closed = self._closed or self._open()
            if self._closed:
                return None, None
        if visible not in self._handles:
            self._handles[visible] = self._try(lambda: self._visible(visible)) or []
        handles = self._handles[visible]
        if not 0 <= index < len(handles):
            return None, None
        busy = self._try(lambda: self._library.nvmlDeviceGetUtilizationRates(handles[index]).gpu)
        memory = self._try(lambda: self._memory(handles[index]))
        return None if busy is None else float(busy), memory.used / GIB if memory else None

    def _open(self) -> str:
        """Make the library ready; return why it is not."""
        if self._library is None:
            try:
                import pynvml
            except ImportError:
                return "Cards cannot be asked: the package nvidia-ml-py is not installed."
            self._library = pynvml
        try:
            self._library.nvmlInit()
        except self._library.NVMLError as error:
            return _why_closed(error)
        self._ready = True
        return ""

    def _visible(self, visible: str | None) -> list[Any]:
        count = self._library.nvmlDeviceGetCount()
        # A card that has fallen off the bus is not listed; the others are.
        found = [self._handle(number) for number in range(count)]
        handles = [handle for handle in found if handle is not None]
        if visible is None:
            return handles
        chosen: list[Any] = []
        for word in visible.split(","):
            handle = self._named(word.strip(), found)
            # CUDA, too, stops at the first entry that names no card.
            if handle is None:
                break
            chosen.append(handle)
        return chosen

    def _handle(self, number: int) -> Any:
        return self._try(lambda: self._library.nvmlDeviceGetHandleByIndex(number))

    def _named(self, word: str, handles: list[Any]) -> Any:
        if word.isdecimal():
            return handles[int(word)] if int(word) < len(handles) else None
        if word.startswith("MIG-"):
            return self._try(lambda: self._library.nvmlDeviceGetHandleByUUID(word))
        if not word.startswith("GPU-"):
            return None
        for handle in handles:
            if handle is not None and (self._uuid(handle) or "").startswith(word):
                return handle
        return None

    def _describe_all(self, handles: list[Any], timeout_s: float) -> list[dict[str, Any]]:
        facts: list[dict[str, Any]] = [{} for _ in handles]
        threads = [
            threading.Thread(target=self._describe, args=(handle, found), daemon=True)
            for handle, found in zip(handles, facts, strict=True)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not any(thread.is_alive() for thread in threads):
            # Held open, the driver would keep a laptop's card awake.
            self._ready = False
            self._try(self._library.nvmlShutdown)
        return [dict(found) for found in facts]

    def _describe(self, handle: Any, found: dict[str, Any]) -> None:
        ask = self._library
        found["uuid"] = self._uuid(handle)
        found["name"] = self._try(lambda: _text(ask.nvmlDeviceGetName(handle)))
        found["capability"] = self._try(
            lambda: tuple(ask.nvmlDeviceGetCudaComputeCapability(handle))
        )
        found["memory"] = self._try(lambda: self._memory(handle))
        found["ours"] = self._try(lambda: self._ours(handle))

    def _uuid(self, handle: Any) -> str | None:
        uuid: str | None = self._try(lambda: _text(self._library.nvmlDeviceGetUUID(handle)))
        return uuid

    def _memory(self, handle: Any) -> Any:
        # Version 2 keeps what the driver reserves out of "used"; old drivers know version 1 only.
        version = getattr(self._library, "nvmlMemory_v2", None)
        if version is not None:
            newer = self._try(lambda: self._library.nvmlDeviceGetMemoryInfo(handle, version))
            if newer is not None:
                return newer
        return self._library.nvmlDeviceGetMemoryInfo(handle)

    def _ours(self, handle: Any) -> int:
        """Return the bytes that this process and its children hold."""
        pids = {os.getpid()}
        with contextlib.suppress(psutil.Error):
            pids |= {child.pid for child in psutil.Process().children(recursive=True)}
        using = self._library.nvmlDeviceGetComputeRunningProcesses(handle)
        return sum(one.usedGpuMemory or 0 for one in using if one.pid in pids)

    def _try(self, ask: Callable[[], Any]) -> Any:
        # Drivers differ in what they know of a card: "not supported" is an answer, not a failure.
        try:
            return ask()
        except (self._library.NVMLError, AttributeError, UnicodeDecodeError):
            return None


def _card(index: int, found: dict[str, Any], driver: str | None) -> Gpu:
    memory = found.get("memory")
    used = memory.used if memory else None
    return Gpu(
        index=index,
        name=found.get("name") or "NVIDIA GPU",
        total_gib=memory.total / GIB if memory else None,
        free_gib=memory.free / GIB if memory else None,
        other_gib=None if used is None else max(0, used - (found.get("ours") or 0)) / GIB,
        compute_capability=found.get("capability"),
        driver=driver,
        uuid=found.get("uuid"),
    )


def _why_none(visible: str | None) -> str:
    if visible is None:
        return "The NVIDIA driver is here, but it finds no card."
    return f"CUDA_VISIBLE_DEVICES='{visible}' shows no card. Unset it to see them all."


def _why_closed(error: Any) -> str:
    code = getattr(error, "value", None)
    if code == _LIBRARY_NOT_FOUND:
        return "No NVIDIA card was found. Small models train on this computer's CPU in minutes."
    if code == _DRIVER_NOT_LOADED:
        return "An NVIDIA driver is installed but not running. Restart the computer."
    if code == _VERSION_MISMATCH:
        return "The NVIDIA driver was updated while it ran. Restart the computer."
    return f"The NVIDIA driver answered: {error}."


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
