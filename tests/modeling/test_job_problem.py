"""What ends the process of an export or an evaluation, in words."""

from __future__ import annotations

import pytest

from modelforge.errors import Problem, RunError
from modelforge.runs.evaluations import EvaluationFolder
from modelforge.runs.exports import ExportFolder

pytestmark = pytest.mark.torch
FOLDERS = pytest.mark.parametrize("kind", [ExportFolder, EvaluationFolder])


def problem(error, kind, path) -> Problem:
    from modelforge.modeling.job_problem import job_problem

    return job_problem(error, kind(path), "try again")


@FOLDERS
@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("4000000 requested and 2097120 written"),
        Exception("No space left on device (os error 28)"),
    ],
)
def test_every_library_that_meets_a_full_disk_is_understood(error, kind, tmp_path):
    found = problem(error, kind, tmp_path)

    assert found.where == "disk"
    assert found.remedy == "Free some disk space, then try again."


@FOLDERS
def test_a_file_that_is_too_large_is_not_called_a_full_disk(kind, tmp_path):
    assert "larger than is allowed" in problem(OSError(27, "File too large"), kind, tmp_path).what


@FOLDERS
def test_short_memory_asks_for_other_programs_to_be_ended(kind, tmp_path):
    found = problem(MemoryError("out of memory"), kind, tmp_path)

    assert found.remedy == "End other programs, then try again."


@FOLDERS
def test_an_unexpected_error_names_the_log(kind, tmp_path):
    found = problem(ZeroDivisionError("x"), kind, tmp_path)

    assert found.where == kind.NOUN
    assert str(kind(tmp_path).log) in found.remedy


@FOLDERS
def test_an_error_in_words_is_kept(kind, tmp_path):
    own = Problem("base model", "It is gone.", "Download it.")

    assert problem(RunError(own), kind, tmp_path) == own
