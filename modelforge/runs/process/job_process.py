"""The process of a job, as it sees itself: how it ends, also with the server that started it."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from typing import NoReturn

import psutil

from modelforge.runs.jobs import JobFolder, queue_again
from modelforge.stdin import when_stdin_ends


def end_with_stdin(folder: JobFolder, ending: threading.Lock) -> None:
    """End this process when its stdin ends, and queue its job again.

    It never outlives the server that started it. The result of a job is written under `ending`.
    """
    when_stdin_ends(partial(_give_up, folder, ending))


def exit_now(code: int) -> NoReturn:
    """Exit at once: taking torch down takes seconds, and the job is over with its process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _give_up(folder: JobFolder, ending: threading.Lock) -> None:
    # The job fails as it is ended, which must not become its result.
    ending.acquire()
    for child in psutil.Process().children(recursive=True):
        child.kill()
    queue_again(folder)
    os._exit(1)
