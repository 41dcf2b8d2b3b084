"""An exclusive file lock for all threads and servers of a home."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from modelforge.errors import Problem, RunError
from modelforge.runs.atomic_files import disk_error

POLL_S = 0.01


@contextlib.contextmanager
def exclusive(path: Path, timeout_s: float = 60.0) -> Iterator[None]:
    """Hold the lock file `path`; reentrant for the thread that holds it.

    The operating system releases the lock when the process ends. Raises RunError if the file
    cannot be created, or if the lock is not released within the timeout.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, is_singleton=True)
        lock.acquire(timeout=timeout_s, poll_interval=POLL_S)
    except Timeout as error:
        what = f"Another ModelForge server has held a lock for {timeout_s:.0f} s."
        remedy = "Try again; if that does not help, close the other server."
        raise RunError(Problem("run", what, remedy)) from error
    except OSError as error:
        raise disk_error(error, path) from error
    try:
        yield
    finally:
        lock.release()
