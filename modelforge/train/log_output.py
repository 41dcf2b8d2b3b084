"""What the log of a run contains and where else it is written, by the settings of the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TextIO

from modelforge.errors import ForgeError
from modelforge.paths import expand_user
from modelforge.runs.layout import RunFolder
from modelforge.train.environment import LIBRARIES
from modelforge.train.event_log import EventLog
from modelforge.train.job import Job


@contextlib.contextmanager
def log_output(run: RunFolder, log: EventLog) -> Iterator[None]:
    """Set the level and the copy of the log until the run has ended.

    A trial run has no copy. A record that cannot be read is reported by the run itself.
    """
    try:
        job = Job.read(run)
    except (ForgeError, KeyError, ValueError):
        yield
        return
    settings = job.config.logging
    with contextlib.ExitStack() as stack:
        log.level = settings.log_level
        if settings.log_file and not job.is_trial_run:
            log.copy = _open_copy(settings.log_file, run, log, stack)
        if settings.log_level == "debug":
            stack.enter_context(_library_messages(log))
        yield


def _open_copy(
    path: str, run: RunFolder, log: EventLog, stack: contextlib.ExitStack
) -> TextIO | None:
    """Return the file to which the lines are appended too; None, with a note, if it cannot be."""
    try:
        file = expand_user(path).open("a", buffering=1, encoding="utf-8", errors="backslashreplace")
        stack.callback(_close, file)
        file.write(f"Run {run.id}, in {run.path}\n")
    except (OSError, ValueError) as error:
        log.note("log-copy-failed", f"The log cannot be copied to {path}: {error}.")
        return None
    return file


def _close(file: TextIO) -> None:
    with contextlib.suppress(OSError):
        file.close()


class _LineHandler(logging.Handler):
    """Writes the messages of a library as lines of the log."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message, on one line."""
        text = " ".join(record.getMessage().split())
        self._log.line(f"{record.name}: {text}", "debug")


@contextlib.contextmanager
def _library_messages(log: EventLog) -> Iterator[None]:
    """Put the messages of the libraries from the level info on into the log."""
    handler = _LineHandler(log)
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(each.level, list(each.handlers), each.propagate) for each in loggers]
    for each in loggers:
        each.handlers, each.propagate = [handler], False
        each.setLevel(logging.INFO)
    try:
        yield
    finally:
        for each, (level, handlers, propagate) in zip(loggers, before, strict=True):
            each.handlers, each.propagate = handlers, propagate
            each.setLevel(level)
