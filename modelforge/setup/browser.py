"""Find a Chromium or Chrome on this machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "microsoft-edge-stable",
    "msedge",
)
MAC_PATHS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
WINDOWS_PATHS = (
    "Google/Chrome/Application/chrome.exe",
    "Chromium/Application/chrome.exe",
    "Microsoft/Edge/Application/msedge.exe",
)
PLAYWRIGHT_PATTERNS = (
    "chromium-*/chrome-linux*/chrome",
    "chromium-*/chrome-mac*/*.app/Contents/MacOS/*",
    "chromium-*/chrome-win*/chrome.exe",
)


def find_browser() -> str | None:
    """Return the first working browser: MODELFORGE_BROWSER, then installed, then Playwright's."""
    for candidate in _candidates():
        if candidate and Path(candidate).is_file() and starts(candidate):
            return candidate
    return None


def starts(path: str) -> bool:
    """Return whether `--version` works. It fails for stubs and with missing libraries."""
    if platform.system() == "Windows":
        return True  # Chrome opens a window there instead of printing its version.
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _candidates() -> Iterator[str | None]:
    yield os.environ.get("MODELFORGE_BROWSER")
    yield from (shutil.which(name) for name in NAMES)
    yield from MAC_PATHS
    for variable in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"):
        if os.environ.get(variable):
            yield from (str(Path(os.environ[variable], path)) for path in WINDOWS_PATHS)
    for pattern in PLAYWRIGHT_PATTERNS:
        yield from sorted(map(str, _playwright_folder().glob(pattern)), reverse=True)


def _playwright_folder() -> Path:
    path = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    if path and path != "0":
        return Path(path)
    caches = {
        "Darwin": Path.home() / "Library" / "Caches",
        "Windows": Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"),
    }
    return caches.get(platform.system(), Path.home() / ".cache") / "ms-playwright"
