"""Add an extra to the environment of a running app, and say how far it is."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from modelforge.setup.errors import SetupError
from modelforge.setup.progress import StageLine
from modelforge.setup.stages import Setup, SetupOptions

ROOT = Path(__file__).resolve().parents[2]
Say = Callable[[str], None]


class CallbackLine(StageLine):
    """A stage's line that is told to somebody instead of printed."""

    def __init__(self, title: str, say: Say) -> None:
        super().__init__(title, io.StringIO())
        self._say = say
        self._last = ""

    def show(self, doing: str) -> None:
        """Tell what is being done now, once."""
        if doing and doing != self._last:
            self._last = doing
            self._say(doing)


def unavailable_reason(home: Path, root: Path = ROOT, prefix: str = sys.prefix) -> str:
    """Say why extras cannot be added to the app that is running, or nothing."""
    wish = SetupOptions(root, home)
    if Path(prefix).resolve() != wish.venv.resolve():
        return "This app was not set up by launch.py, so its packages are left alone."
    if missing := Setup(wish).missing():
        return f"The set-up is not complete ({', '.join(missing)})."
    return ""


def install_extra(extra: str, home: Path, say: Say, root: Path = ROOT) -> None:
    """Install an extra as `launch.py setup --with` does; raises SetupError with one sentence."""

    def line(title: str, _out: TextIO | None) -> StageLine:
        return CallbackLine(title, say)

    Setup(SetupOptions(root, home, frozenset({extra})), line=line).run()
    # What was not there a moment ago can be found now.
    importlib.invalidate_caches()


__all__ = ["SetupError", "install_extra", "unavailable_reason"]
