"""One at a time over all threads and servers of a home: an exclusive lock on a file."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from modelforge.errors import Problem, RunError
from modelforge.runs.atomic_files import disk_error

TRY_EVERY_S = 0.01

_held = threading.local()


@contextlib.contextmanager
def exclusive(path: Path, patience_s: float = 60.0) -> Iterator[None]:
    """Hold the lock on `path`; the thread that holds it may enter again.

    The operating system lets go of it when the process dies. Raises RunError when the file
    cannot be made, or when another holds the lock for longer than the patience.
    """
    depths: dict[Path, int] = _held.__dict__.setdefault("depths", {})
    if depths.get(path):
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise disk_error(error, path) from error
    with file:
        _wait_for(file, patience_s)
        depths[path] = 1
        try:
            yield
        finally:
            del depths[path]
            _unlock(file)


def _wait_for(file: IO[bytes], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not _try(file):
        if time.monotonic() > deadline:
            raise RunError(
                Problem(
                    "run",
                    f"Another ModelForge has been starting a run for {patience_s:.0f} s.",
                    "Try again; if that does not help, close the other one.",
                )
            )
        time.sleep(TRY_EVERY_S)


if sys.platform == "win32":
    import msvcrt

    def _try(file: IO[bytes]) -> bool:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
