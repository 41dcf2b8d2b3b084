"""One set-up at a time in a checkout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelforge.setup.errors import SetupError


@contextmanager
def exclusive_setup(path: Path) -> Iterator[None]:
    """Hold the lock file; the operating system lets go of it when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            _take(file.fileno())
        except OSError as error:
            raise SetupError(
                "Another set-up is at work in this folder; wait for it, then try again."
            ) from error
        yield


if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
