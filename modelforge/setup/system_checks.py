"""What is right and wrong with this machine, as far as a bare Python can tell."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from modelforge.setup.browser import find_browser
from modelforge.setup.torch_build import Version, parse_version
from modelforge.units import GIB

PYTHONS = ((3, 11), (3, 13))
COMFORT_GIB, NEEDED_GIB = 20.0, 4.0
STATE_LABELS = {"good": "ok  ", "note": "note", "bad": "BAD "}


@dataclass(frozen=True)
class CheckResult:
    """One line of the doctor's table; the remedy is empty where nothing is to be done."""

    name: str
    state: Literal["good", "note", "bad"]
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return (
            f"{STATE_LABELS[self.state]}  {self.name:<14}  " + f"{self.what} {self.remedy}".strip()
        )


class GpuInfo(TypedDict):
    """What decides about the build of torch; None where it is not known."""

    driver_version: str | None
    capability: Version | None


def default_home() -> Path:
    """Return the home folder without any package: MODELFORGE_HOME, else the platform's place."""
    if given := os.environ.get("MODELFORGE_HOME"):
        return Path(given).expanduser().resolve()
    user = Path.home()
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or user / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = user / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME", "").strip() or user / ".local" / "share")
    return (data / "ModelForge").resolve()


def query_nvidia_gpu() -> GpuInfo:
    """Ask `nvidia-smi` for the driver and the newest card; everything None without one."""
    unknown = GpuInfo(driver_version=None, capability=None)
    program = shutil.which("nvidia-smi")
    if not program:
        return unknown
    question = ["--query-gpu=driver_version,compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            [program, *question], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return unknown
    cards = [line.split(",") for line in answer.stdout.splitlines() if "," in line]
    if not cards:
        return unknown
    driver, newest = cards[0][0].strip(), max(parse_version(card[1]) for card in cards)
    return GpuInfo(driver_version=driver, capability=newest or None)


def check_python() -> CheckResult:
    """Say whether this Python is one that everything is made for."""
    oldest, newest = PYTHONS
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}."
    if not oldest <= sys.version_info[:2] <= newest:
        return CheckResult("Python", "bad", said, "Install Python 3.11, 3.12 or 3.13 and use that.")
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        return CheckResult(
            "Python", "bad", f"{said} It cannot make environments.", "Install python3-venv."
        )
    return CheckResult("Python", "good", said)


def check_disk(home: Path) -> CheckResult:
    """Say how much room there is where runs and models go."""
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free_gib = shutil.disk_usage(existing).free / GIB
    said = f"{free_gib:.1f} GiB free for {home}."
    if not os.access(existing, os.W_OK):
        return CheckResult(
            "Disk", "bad", f"{existing} cannot be written.", "Choose another --home."
        )
    if free_gib < NEEDED_GIB:
        return CheckResult(
            "Disk", "bad", said, f"At least {NEEDED_GIB:.0f} GiB are needed: make room."
        )
    if free_gib < COMFORT_GIB:
        return CheckResult("Disk", "note", said, "Enough for small models; 20 GiB are comfortable.")
    return CheckResult("Disk", "good", said)


def check_browser() -> CheckResult:
    """Say whether a window of its own and the browser tests are possible."""
    if path := find_browser():
        return CheckResult("Browser", "good", f"{path}.")
    return CheckResult(
        "Browser",
        "note",
        "No Chromium, Chrome or Edge was found; the page opens in any other browser.",
        "Install one for --app and for the browser tests.",
    )


def checks_before_setup(home: Path) -> list[CheckResult]:
    """Return what can be said while nothing is installed."""
    driver = query_nvidia_gpu()["driver_version"]
    gpu = f"NVIDIA driver {driver}." if driver else "No NVIDIA driver answers; the CPU will do."
    not_yet = "PyTorch, ModelForge and the starter model are not installed."
    return [
        check_python(),
        CheckResult("Set-up", "note", not_yet, "Run `python launch.py setup`."),
        CheckResult("GPU", "good" if driver else "note", gpu),
        check_disk(home),
        check_browser(),
    ]
