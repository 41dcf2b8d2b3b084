"""What went wrong, as a failed event says it: a stable cause, what it means, and what helps."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from modelforge.errors import DataError, ForgeError, NotFoundError, Problem


@dataclass(frozen=True)
class Failure:
    """The data of a failed event."""

    cause: str
    what: str
    remedy: str


class WorkError(ForgeError):
    """A failure of the work whose cause is known; `cause` is stable and hyphenated."""

    def __init__(self, cause: str, problem: Problem) -> None:
        super().__init__(problem)
        self.cause = cause


_CAUSES: tuple[tuple[type[ForgeError], str], ...] = (
    (DataError, "data"),
    (NotFoundError, "not-found"),
    (ForgeError, "run"),
)
_LESS_MEMORY = (
    "Choose a smaller model, a shorter longest row or batch size 1, or switch gradient "
    "checkpointing on."
)


def explain(error: BaseException) -> Failure:
    """Return what `error` means to a person. What nobody foresaw has the cause `unexpected`."""
    if isinstance(error, ForgeError):
        return _ours(error)
    if _is_out_of_memory(error):
        where = "The GPU" if "cuda" in f"{type(error)}{error}".lower() else "This computer"
        return Failure("out-of-memory", f"{where} ran out of memory.", _LESS_MEMORY)
    if _is_disk_full(error):
        remedy = "Free some space, then start again."
        return Failure("disk-full", "The disk of the home folder is full.", remedy)
    if type(error).__name__ == "NoMatchingPeftModuleError":
        what = f"The model has no layers of these names. {str(error).partition('. ')[0]}."
        return Failure("layers-unknown", what, "Choose all-linear, or names that the model has.")
    if isinstance(error, PermissionError):
        what = f"There is no permission for {error.filename or 'a file of the run'}."
        return Failure("no-permission", what, "Check the rights of the home folder.")
    first = str(error).strip().split("\n", 1)[0]
    return Failure(
        "unexpected",
        f"{type(error).__name__}: {first}" if first else f"{type(error).__name__}.",
        "The run's log has the details.",
    )


def _ours(error: ForgeError) -> Failure:
    cause = getattr(error, "cause", None) or next(
        code for kind, code in _CAUSES if isinstance(error, kind)
    )
    what = " ".join(f"{problem.where}: {problem.what}" for problem in error.problems)
    remedy = next((problem.remedy for problem in error.problems if problem.remedy), "")
    return Failure(cause, what, remedy)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # torch's allocator for the CPU raises a plain RuntimeError.
    words = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    # safetensors and torch write with their own hands and their own error classes.
    words = ("no space left on device", "os error 28", "enforce fail at inline_container")
    return any(word in str(error).lower() for word in words)
