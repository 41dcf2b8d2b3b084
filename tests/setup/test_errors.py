"""Messages about failed stages."""

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
        ([RETRYING, NONE_FOUND], "the package index cannot be reached", "check the network"),
        ([NONE_FOUND], "No matching distribution found for torch==2.13.0", "see the log"),
        (["ERROR: [Errno 28] No space left on device"], "the disk is full", "free about 6 GiB"),
        (["because ensurepip is not available."], "has no ensurepip", "python3-venv"),
        (["ERROR: [Errno 13] Permission denied: '/x'"], "'/x'", "make this folder writable"),
        (
            ["Traceback:", "FileNotFoundError: no assets", "hint: See above."],
            "FileNotFoundError: no assets",
            "see the log",
        ),
        ([], "it ended without output", "see the log"),
    ],
)
def test_the_message_has_cause_and_remedy(lines: list[str], reason: str, remedy: str) -> None:
    message = explain("PyTorch", lines, LOG)
    assert message.startswith("Set-up stopped at PyTorch: ")
    assert reason in message
    assert remedy in message
    assert str(LOG) in message
    assert "\n" not in message
