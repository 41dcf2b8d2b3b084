"""What the processor of this computer is called, and whether it multiplies in bf16."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

# Instructions that make bf16 faster than fp32, by the names that Linux gives them.
BF16_FLAGS = ("avx512_bf16", "amx_bf16")


def cpu_name() -> str:
    """Return what the processor is called, or its kind."""
    usual = platform.processor() or platform.machine()
    try:
        return _named() or usual
    except (OSError, subprocess.SubprocessError):
        return usual


@cache
def bf16_flags() -> tuple[str, ...]:
    """Return those of BF16_FLAGS that it has; elsewhere than on Linux nobody is asked."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return tuple(flag for flag in BF16_FLAGS if flag in line.split())


def _named() -> str:
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
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return next(names, "").strip()
