"""The request to stop: a file in the run folder, or the terminate signal."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Literal

StopMode = Literal["keep", "discard"]


class StopRequested(BaseException):
    """Unwinds the work when somebody wants the run to end. Not an error, so no Exception."""


class TrialRunFinished(BaseException):
    """Unwinds the work once a rehearsal has measured and told everything. No error either."""


class Stop:
    """Says whether the run is to end, and whether what it has learned is to be kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signalled = False

    def listen(self) -> None:
        """Take the terminate and interrupt signals as the wish to stop and keep."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    @property
    def mode(self) -> StopMode | None:
        """What is wished now, or None to go on. Costs one look at the disk."""
        try:
            text = self._path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return "keep" if self._signalled else None
        except OSError:
            return "keep"
        return "discard" if text == "discard" else "keep"

    def check(self) -> None:
        """Raise StopAsked when the run is to end."""
        if self.mode is not None:
            raise StopRequested

    def _hear(self, _number: int, _frame: object) -> None:
        self._signalled = True
