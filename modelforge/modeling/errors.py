"""Errors of the worker, and the event that reports an exception."""

from __future__ import annotations

import errno
from dataclasses import replace

from modelforge.config.fields import specs_by_name
from modelforge.diagnosis.classify import UNEXPECTED, match_text
from modelforge.errors import DataError, ForgeError, NotFoundError, Problem
from modelforge.runs.event_types import FailedEvent


class WorkerError(ForgeError):
    """A failure with a known cause; `cause` is a stable hyphenated code."""

    def __init__(self, cause: str, problem: Problem) -> None:
        super().__init__(problem)
        self.cause = cause


def not_finite(what: str) -> WorkerError:
    """Return the error of a loss or gradient that is not finite."""
    remedy = "Lower the learning rate, or train in bf16 or fp32 instead of fp16."
    return WorkerError("loss-not-finite", Problem("training", what, remedy))


_CAUSES: tuple[tuple[type[ForgeError], str], ...] = (
    (DataError, "data"),
    (NotFoundError, "not-found"),
    (ForgeError, "run"),
)
MAX_CHARS = 160
# Causes whose own message is complete without the text of the exception.
_COMPLETE = frozenset({"out-of-memory", "disk-full", "too-many-files", "killed-for-memory"})


def explain(error: BaseException) -> FailedEvent:
    """Return the event for an exception; unknown ones have the cause `unexpected`."""
    if isinstance(error, ForgeError):
        return _of_forge_error(error)
    error = import_cause(error)
    first = first_line(error).rstrip(".")
    name = type(error).__name__
    # Quotas have an error number of their own, and some file systems no message for either.
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    entry = match_text("[Errno 28]" if is_full else f"{name}: {error}")
    if entry is None:
        what = _end(f"{name}: {first}" if first else name)
        remedy = "The run's log has the details."
        return FailedEvent(cause=UNEXPECTED, what=what, remedy=remedy)
    if entry.code in _COMPLETE or not first:
        return FailedEvent(cause=entry.code, what=entry.what, remedy=entry.remedy)
    # The text of the exception names the file, layer or column.
    detail = first
    if entry.code == "no-permission":
        detail = str(getattr(error, "filename", None) or first)
    what = _end(f"{entry.what.rstrip('.')}: {detail[:MAX_CHARS]}")
    return FailedEvent(cause=entry.code, what=what, remedy=entry.remedy)


def import_cause(error: BaseException) -> BaseException:
    """Return why a module cannot be imported, which Transformers hides behind its own error."""
    while isinstance(error, ImportError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _end(text: str) -> str:
    return text if text.endswith(("?", "!")) else f"{text}."


def first_line(error: BaseException) -> str:
    """Return the first line of an error; with the next one if it only announces that."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()] or [""]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _of_forge_error(error: ForgeError) -> FailedEvent:
    cause = getattr(error, "cause", None)
    if cause is None:
        cause = next(code for kind, code in _CAUSES if isinstance(error, kind))
    specs = specs_by_name()
    what = " ".join(
        str(replace(problem, where=specs[problem.where].label, remedy=""))
        if problem.where in specs
        else f"{problem.where}: {problem.what}"
        for problem in error.problems
    )
    remedy = next((problem.remedy for problem in error.problems if problem.remedy), "")
    return FailedEvent(cause=cause, what=what, remedy=remedy)
