"""A little room on the disk, held while a worker works, so that its last word finds a place."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NAME = ".reserve"
BYTES = 2**15


class DiskReserve:
    """Some kilobytes in a run folder, given back when the disk is full or the work is over."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def hold(self) -> None:
        """Take the room, if there is any."""
        with contextlib.suppress(OSError), self._path.open("wb") as file:
            file.write(b"\0" * BYTES)
            file.flush()
            # Some systems give blocks only when they must.
            os.fsync(file.fileno())

    def release(self) -> None:
        """Give the room back; a second time does nothing."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
