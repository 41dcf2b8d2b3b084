"""Install an extra into the environment of the running app, with progress."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from modelforge.setup.environment import SetupOptions
from modelforge.setup.errors import SetupError
from modelforge.setup.progress import StageLine
from modelforge.setup.stages import Setup

ROOT = Path(__file__).resolve().parents[2]
OnProgress = Callable[[str], None]


class CallbackLine(StageLine):
    """The progress line of a stage, passed to a callback instead of printed."""

    def __init__(self, title: str, on_progress: OnProgress) -> None:
        super().__init__(title, io.StringIO())
        self._on_progress = on_progress
        self._last = ""

    def show(self, doing: str) -> None:
        """Report the current activity once."""
        if doing and doing != self._last:
            self._last = doing
            self._on_progress(doing)


def unavailable_reason(home: Path, root: Path = ROOT, prefix: str = sys.prefix) -> str:
    """Return why extras cannot be installed into the running app; empty if they can."""
    options = SetupOptions(root, home)
    if Path(prefix).resolve() != options.venv.resolve():
        return "This app was not set up by launch.py, so it does not install packages."
    if missing := Setup(options).missing():
        return f"The set-up is not complete ({', '.join(missing)})."
    return ""


def install_extra(extra: str, home: Path, on_progress: OnProgress, root: Path = ROOT) -> None:
    """Install an extra like `launch.py setup --with`. Raises SetupError."""

    def line(title: str, _out: TextIO | None) -> StageLine:
        return CallbackLine(title, on_progress)

    options = SetupOptions(root, home, frozenset({extra}), renews_extras=True)
    Setup(options, line=line).run()
    # New packages are found only after this.
    importlib.invalidate_caches()


__all__ = ["SetupError", "install_extra", "unavailable_reason"]
