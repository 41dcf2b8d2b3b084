"""Why a stage failed, in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelforge.setup.errors import explain

LOG = Path("setup.log")
RETRYING = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by "
    "'NewConnectionError(... Temporary failure in name resolution)': /simple/torch/"
)
NONE_FOUND = "ERROR: No matching distribution found for torch==2.13.0"


@pytest.mark.parametrize(
    ("lines", "reason", "remedy"),
    [
        ([RETRYING, NONE_FOUND], "the package index was not reached", "check the network"),
        ([NONE_FOUND], "No matching distribution found for torch==2.13.0", "look into the log"),
        (["ERROR: [Errno 28] No space left on device"], "the disk is full", "free some 6 GiB"),
        (["because ensurepip is not available."], "has no ensurepip", "python3-venv"),
        (["ERROR: [Errno 13] Permission denied: '/x'"], "'/x'", "make this folder writable"),
        (
            ["Traceback:", "FileNotFoundError: no assets", "hint: See above."],
            "FileNotFoundError: no assets",
            "look into the log",
        ),
        ([], "it ended without a word", "look into the log"),
    ],
)
def test_a_failure_says_what_why_and_what_to_do(lines: list[str], reason: str, remedy: str) -> None:
    said = explain("PyTorch", lines, LOG)
    assert said.startswith("Set-up stopped at PyTorch: ")
    assert reason in said
    assert remedy in said
    assert str(LOG) in said
    assert "\n" not in said
