"""What went wrong, as a failed event says it: a stable cause, what it means, and what helps."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from modelforge.diagnosis.classify import UNEXPECTED, recognise
from modelforge.errors import DataError, ForgeError, NotFoundError, Problem


@dataclass(frozen=True)
class Failure:
    """The data of a failed event."""

    cause: str
    what: str
    remedy: str


class WorkerError(ForgeError):
    """A failure of the work whose cause is known; `cause` is stable and hyphenated."""

    def __init__(self, cause: str, problem: Problem) -> None:
        super().__init__(problem)
        self.cause = cause


_CAUSES: tuple[tuple[type[ForgeError], str], ...] = (
    (DataError, "data"),
    (NotFoundError, "not-found"),
    (ForgeError, "run"),
)
MAX_CHARS = 160
_SAID_FULLY = frozenset({"out-of-memory", "disk-full", "too-many-files", "killed-for-memory"})


def explain(error: BaseException) -> Failure:
    """Return what `error` means to a person. What nobody foresaw has the cause `unexpected`."""
    if isinstance(error, ForgeError):
        return _ours(error)
    first = str(error).strip().split("\n", 1)[0].rstrip(".")
    name = type(error).__name__
    # Quotas have a number of their own, and some file systems no words for it.
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    entry = recognise("[Errno 28]" if full else f"{name}: {error}")
    if entry is None:
        what = f"{name}: {first}." if first else f"{name}."
        return Failure(UNEXPECTED, what, "The run's log has the details.")
    if entry.code in _SAID_FULLY or not first:
        return Failure(entry.code, entry.what, entry.remedy)
    # The library's own words name the file, layer or column that ours cannot know.
    named = (getattr(error, "filename", None) or first) if entry.code == "no-permission" else first
    what = f"{entry.what.rstrip('.')}: {str(named)[:MAX_CHARS]}."
    return Failure(entry.code, what, entry.remedy)


def _ours(error: ForgeError) -> Failure:
    cause = getattr(error, "cause", None) or next(
        code for kind, code in _CAUSES if isinstance(error, kind)
    )
    what = " ".join(f"{problem.where}: {problem.what}" for problem in error.problems)
    remedy = next((problem.remedy for problem in error.problems if problem.remedy), "")
    return Failure(cause, what, remedy)
