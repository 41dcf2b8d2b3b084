"""Reserve 32 KiB of disk space so that the final event can be written when the disk is full."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NAME = ".reserve"
BYTES = 2**15


class DiskReserve:
    """A file in a run folder, deleted when the disk is full or the worker ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def hold(self) -> None:
        """Create the file; without free disk space this does nothing."""
        with contextlib.suppress(OSError), self._path.open("wb") as file:
            file.write(b"\0" * BYTES)
            file.flush()
            # Some file systems allocate blocks only then.
            os.fsync(file.fileno())

    def release(self) -> None:
        """Delete the file; repeated calls do nothing."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
