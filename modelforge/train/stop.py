"""The stop request: a file in the run folder, or a terminate signal."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Literal

from modelforge.runs.layout import RunFolder

StopMode = Literal["keep", "discard"]


class StopRequested(BaseException):
    """Raised to end the run on request. Not an Exception, so that no handler catches it."""


class TrialRunFinished(BaseException):
    """Raised when a trial run has reported its measurements. Not an error either."""


class Stop:
    """Whether the run must stop, and whether the trained weights are kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        record = RunFolder(path.parent).config
        self._record = record if record.exists() else None
        self._signalled = False

    def listen(self) -> None:
        """Treat SIGTERM and SIGINT as a request to stop and keep."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    @property
    def mode(self) -> StopMode | None:
        """The current request, or None. Reads the file each time.

        A run whose folder was deleted has nowhere to write to, and is discarded.
        """
        if self._record is not None and not self._record.exists():
            return "discard"
        try:
            text = self._path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return "keep" if self._signalled else None
        except OSError:
            return "keep"
        return "discard" if text == "discard" else "keep"

    def agree(self) -> None:
        """Agree with the other processes of a run on several GPUs; nothing to do for one."""

    def check(self) -> None:
        """Raise StopRequested if the run must stop."""
        if self.mode is not None:
            raise StopRequested

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signalled = True
