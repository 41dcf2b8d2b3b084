"""What an exception in the process of an export or an evaluation means for people."""

from __future__ import annotations

import errno
import shutil

from modelforge.diagnosis.classify import UNEXPECTED
from modelforge.errors import ForgeError, Problem
from modelforge.modeling.errors import explain
from modelforge.runs.atomic_files import DISK_FULL
from modelforge.runs.jobs import JobFolder
from modelforge.units import human_bytes

# Causes whose usual remedies are settings of a training.
_MEMORY = ("out-of-memory", "killed-for-memory")
# What Rust and NumPy say of a full disk.
_FULL_TEXTS = (
    "No space left on device",
    "os error 28",
    "os error 122",
    "os error 27",
    " requested and ",
)


def job_problem(error: Exception, folder: JobFolder, again: str) -> Problem:
    """Return the problem that ends a job; `again` is what repeats it, such as "export again"."""
    if isinstance(error, ForgeError):
        return error.problems[0]
    code = error.errno if isinstance(error, OSError) else None
    if code in DISK_FULL or any(text in str(error) for text in _FULL_TEXTS):
        free = human_bytes(shutil.disk_usage(folder.path).free)
        # Temporary files of the job are removed after this.
        what = f"The disk of {folder.path} became full; {free} are free."
        if code == errno.EFBIG:
            what = f"A file in {folder.path} became larger than is allowed there."
        return Problem("disk", what, f"Free some disk space, then {again}.")
    failure = explain(error)
    remedy = failure.remedy
    if failure.cause in _MEMORY:
        remedy = f"End other programs, then {again}."
    elif failure.cause == UNEXPECTED:
        remedy = f"The log of the {folder.NOUN} has the details: {folder.log}."
    return Problem(folder.NOUN, failure.what, remedy)
