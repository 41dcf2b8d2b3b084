"""Name of the processor, and whether it has instructions for bf16."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

# Instructions with which bf16 is faster than fp32, as /proc/cpuinfo names them.
BF16_FLAGS = ("avx512_bf16", "amx_bf16")
_CPUINFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Return the name of the processor, or its architecture if the name is unknown."""
    try:
        name = _query_name()
    except (OSError, subprocess.SubprocessError):
        name = ""
    return name or platform.processor() or platform.machine()


@cache
def bf16_flags() -> tuple[str, ...]:
    """Return the instructions of BF16_FLAGS that the processor has; detected on Linux only."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return tuple(flag for flag in BF16_FLAGS if flag in line.split())


def _query_name() -> str:
    if sys.platform == "win32":
        import winreg

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
