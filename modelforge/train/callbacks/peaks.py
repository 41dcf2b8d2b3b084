"""The most memory that this process has held: resident on the CPU, reserved on a GPU."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil

GIB = 2**30
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# A context holds this much of a card at least and at most; what is beyond belongs to others.
CONTEXT_GIB = (0.2, 1.0)


def forget_peak() -> None:
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
