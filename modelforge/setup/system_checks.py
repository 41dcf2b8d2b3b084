"""Checks of this machine that need no installed package."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from modelforge.setup.browser import find_browser
from modelforge.setup.errors import UsageError
from modelforge.setup.torch_build import Version, parse_version
from modelforge.units import GIB

PYTHON_VERSIONS = ((3, 11), (3, 13))
RECOMMENDED_GIB, NEEDED_GIB = 20.0, 4.0
BUILD_TOOLS = {"cc": "a C compiler", "Python.h": "the header files of Python (Python.h)"}
STATE_LABELS = {"good": "ok  ", "note": "note", "bad": "BAD "}


@dataclass(frozen=True)
class CheckResult:
    """One line of `modelforge doctor`. The remedy is empty if none is needed."""

    name: str
    state: Literal["good", "note", "bad"]
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return (
            f"{STATE_LABELS[self.state]}  {self.name:<14}  " + f"{self.what} {self.remedy}".strip()
        )


class GpuInfo(TypedDict):
    """What determines the torch build: the driver, None without one, and each GPU."""

    driver_version: str | None
    capabilities: tuple[Version, ...]


def given_home(path: str, where: str = "--home") -> Path:
    """Return the home folder that was given; raises UsageError for a path that names none."""
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise UsageError(f"{where}: {path[:200]} cannot be used: {reason[:200]}.") from error


def default_home() -> Path:
    """Return the home folder: MODELFORGE_HOME, else the data folder of the platform."""
    if path := os.environ.get("MODELFORGE_HOME"):
        return given_home(path, "MODELFORGE_HOME")
    user = Path.home()
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or user / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = user / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME", "").strip() or user / ".local" / "share")
    return (data / "ModelForge").resolve()


def query_nvidia_gpu() -> GpuInfo:
    """Query `nvidia-smi` for the driver and the compute capability of each GPU."""
    unknown = GpuInfo(driver_version=None, capabilities=())
    program = shutil.which("nvidia-smi")
    if not program:
        return unknown
    query = ["--query-gpu=driver_version,compute_cap", "--format=csv,noheader"]
    try:
        result = subprocess.run(
            [program, *query], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return unknown
    gpus = [line.split(",") for line in result.stdout.splitlines() if "," in line]
    if not gpus:
        return unknown
    capabilities = tuple(filter(None, (parse_version(gpu[1]) for gpu in gpus)))
    return GpuInfo(driver_version=gpus[0][0].strip(), capabilities=capabilities)


def missing_build_tools(packages: Container[str]) -> str:
    """Return the sentence about what compiling kernels needs and is missing; empty if nothing.

    `packages` are those of `find_build_tools`.
    """
    missing = [text for name, text in BUILD_TOOLS.items() if name not in packages]
    if not missing:
        return ""
    return (
        f"Compiling kernels needs {' and '.join(missing)}. "
        "Install them, on Debian and Ubuntu with `sudo apt install gcc python3-dev`."
    )


def find_build_tools() -> tuple[str, ...]:
    """Return which of `cc` and `Python.h`, needed to compile GPU kernels, are installed."""
    if platform.system() == "Windows":
        return ("cc", "Python.h")  # Triton for Windows brings both.
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    found = {"cc": bool(compiler), "Python.h": header.is_file()}
    return tuple(name for name, is_found in found.items() if is_found)


def check_python() -> CheckResult:
    """Check the Python version and its venv module."""
    oldest, newest = PYTHON_VERSIONS
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}."
    if not oldest <= sys.version_info[:2] <= newest:
        return CheckResult("Python", "bad", found, "Install Python 3.11, 3.12 or 3.13 and use it.")
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        return CheckResult(
            "Python",
            "bad",
            f"{found} It cannot create virtual environments.",
            "Install python3-venv.",
        )
    return CheckResult("Python", "good", found)


def check_disk(home: Path) -> CheckResult:
    """Check the free disk space of the home folder."""
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free_gib = shutil.disk_usage(existing).free / GIB
    found = f"{free_gib:.1f} GiB free for {home}."
    if not os.access(existing, os.W_OK):
        return CheckResult("Disk", "bad", f"{existing} is not writable.", "Choose another --home.")
    if free_gib < NEEDED_GIB:
        return CheckResult("Disk", "bad", found, f"At least {NEEDED_GIB:.0f} GiB are needed.")
    if free_gib < RECOMMENDED_GIB:
        return CheckResult("Disk", "note", found, "Enough for small models; 20 GiB recommended.")
    return CheckResult("Disk", "good", found)


def check_browser() -> CheckResult:
    """Check for a browser that can open an app window and run the browser tests."""
    if path := find_browser():
        return CheckResult("Browser", "good", f"{path}.")
    return CheckResult(
        "Browser",
        "note",
        "No Chromium, Chrome or Edge was found; the page opens in any other browser.",
        "Install one for --app and for the browser tests.",
    )


def checks_before_setup(home: Path) -> list[CheckResult]:
    """Return the checks that are possible before set-up."""
    driver = query_nvidia_gpu()["driver_version"]
    gpu = f"NVIDIA driver {driver}." if driver else "No NVIDIA driver was found; the CPU is used."
    not_yet = "PyTorch, ModelForge and the starter model are not installed."
    return [
        check_python(),
        CheckResult("Set-up", "note", not_yet, "Run `python launch.py setup`."),
        CheckResult("GPU", "good" if driver else "note", gpu),
        check_disk(home),
        check_browser(),
    ]
