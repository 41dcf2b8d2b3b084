"""Query NVIDIA GPUs through NVML. A GPU that times out or fails does not affect the others."""

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
    """An NVIDIA GPU; unknown values are None.

    Args:
        index: its number among the visible GPUs.
        other_gib: memory in use by other processes.
        own_gib: memory in use by this process and its children; 0 where the driver does not
            tell which process uses how much, as on Windows and in containers.
    """

    index: int
    name: str = "NVIDIA GPU"
    total_gib: float | None = None
    free_gib: float | None = None
    other_gib: float | None = None
    compute_capability: tuple[int, int] | None = None
    driver: str | None = None
    uuid: str | None = None
    own_gib: float | None = None


class NvmlClient:
    """A client of the NVIDIA driver.

    Args:
        library: replaces the pynvml module.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library

    def gpus(self, timeout_s: float, visible: str | None) -> tuple[list[Gpu], str]:
        """Return the visible GPUs, or the reason why there are none.

        `visible` is CUDA_VISIBLE_DEVICES. Each GPU is queried in its own thread; what one has not
        answered within `timeout_s` is unknown.
        """
        open_error = self._open()
        if open_error:
            return [], open_error
        try:
            handles = self._visible_handles(visible)
            driver = self._try(lambda: _to_str(self._library.nvmlSystemGetDriverVersion()))
            values = self._query_all(handles, timeout_s)
        except self._library.NVMLError as error:
            return [], f"The NVIDIA driver reports: {error}."
        gpus = [Gpu(index, driver=driver, **queried) for index, queried in enumerate(values)]
        return gpus, "" if gpus else _no_gpu_reason(visible)

    def _open(self) -> str:
        """Initialize NVML; return the reason if it fails."""
        if self._library is None:
            try:
                import pynvml
            except ImportError:
                return "GPUs cannot be queried: the package nvidia-ml-py is not installed."
            self._library = pynvml
        try:
            self._library.nvmlInit()
        except self._library.NVMLError as error:
            return _open_error_text(error)
        return ""

    def _visible_handles(self, visible: str | None) -> list[Any]:
        count = self._library.nvmlDeviceGetCount()
        # A GPU that has fallen off the bus has no handle; the others do.
        all_handles = [self._handle(index) for index in range(count)]
        if visible is None:
            return [handle for handle in all_handles if handle is not None]
        handles: list[Any] = []
        for name in visible.split(","):
            handle = self._handle_by_name(name.strip(), all_handles)
            # CUDA also stops at the first name without a GPU.
            if handle is None:
                break
            handles.append(handle)
        return handles

    def _handle(self, index: int) -> Any:
        return self._try(lambda: self._library.nvmlDeviceGetHandleByIndex(index))

    def _handle_by_name(self, name: str, handles: list[Any]) -> Any:
        """Return the handle of an entry of CUDA_VISIBLE_DEVICES: an index, a UUID or its start."""
        if name.isdecimal():
            return handles[int(name)] if int(name) < len(handles) else None
        if name.startswith("MIG-"):
            return self._try(lambda: self._library.nvmlDeviceGetHandleByUUID(name))
        if not name.startswith("GPU-"):
            return None
        for handle in handles:
            if handle is not None and (self._uuid(handle) or "").startswith(name):
                return handle
        return None

    def _query_all(self, handles: list[Any], timeout_s: float) -> list[dict[str, Any]]:
        values: list[dict[str, Any]] = [{} for _ in handles]
        threads = [
            threading.Thread(target=self._query, args=(handle, queried), daemon=True)
            for handle, queried in zip(handles, values, strict=True)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not any(thread.is_alive() for thread in threads):
            # An open driver keeps the GPU of a laptop awake.
            self._try(self._library.nvmlShutdown)
        return [dict(queried) for queried in values]

    def _query(self, handle: Any, values: dict[str, Any]) -> None:
        nvml = self._library
        values["uuid"] = self._uuid(handle)
        if name := self._try(lambda: _to_str(nvml.nvmlDeviceGetName(handle))):
            values["name"] = name
        values["compute_capability"] = self._try(
            lambda: tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle))
        )
        if memory := self._try(lambda: self._memory(handle)):
            sizes = {"total_gib": memory.total, "free_gib": memory.free, "other_gib": memory.used}
            values |= {name: size / GIB for name, size in sizes.items()}
            own = self._try(lambda: self._own_bytes(handle)) or 0
            values |= {"other_gib": max(0, memory.used - own) / GIB, "own_gib": own / GIB}

    def _uuid(self, handle: Any) -> str | None:
        uuid: str | None = self._try(lambda: _to_str(self._library.nvmlDeviceGetUUID(handle)))
        return uuid

    def _memory(self, handle: Any) -> Any:
        # Version 2 does not count memory reserved by the driver as used; old drivers lack it.
        version = getattr(self._library, "nvmlMemory_v2", None)
        if version is not None:
            memory = self._try(lambda: self._library.nvmlDeviceGetMemoryInfo(handle, version))
            if memory is not None:
                return memory
        return self._library.nvmlDeviceGetMemoryInfo(handle)

    def _own_bytes(self, handle: Any) -> int:
        """Return the memory in use by this process and its children."""
        pids = {os.getpid()}
        with contextlib.suppress(psutil.Error):
            pids |= {child.pid for child in psutil.Process().children(recursive=True)}
        processes = self._library.nvmlDeviceGetComputeRunningProcesses(handle)
        return sum(process.usedGpuMemory or 0 for process in processes if process.pid in pids)

    def _try(self, query: Callable[[], Any]) -> Any:
        """Return the result of a query, or None: GPUs do not support every query."""
        try:
            return query()
        except (self._library.NVMLError, AttributeError, UnicodeDecodeError):
            return None
        except Exception as error:
            # A function of a driver of another version; no NVMLError, and not in every pynvml.
            if type(error).__name__ != "NVMLLibraryMismatchError":
                raise
            return None


def _no_gpu_reason(visible: str | None) -> str:
    if visible is None:
        return "The NVIDIA driver is installed, but it finds no GPU."
    return f"CUDA_VISIBLE_DEVICES='{visible}' hides every GPU. Unset it to use them."


def _open_error_text(error: Any) -> str:
    code = getattr(error, "value", None)
    if code == _LIBRARY_NOT_FOUND:
        return "No NVIDIA GPU was found. Small models train on the CPU in minutes."
    if code == _DRIVER_NOT_LOADED:
        return "An NVIDIA driver is installed but not running. Restart the computer."
    if code == _VERSION_MISMATCH:
        return "The NVIDIA driver was updated while it was running. Restart the computer."
    return f"The NVIDIA driver reports: {error}."


def _to_str(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
