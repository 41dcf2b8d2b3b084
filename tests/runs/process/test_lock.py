"""One at a time, over threads and processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modelforge.errors import RunError
from modelforge.runs.process.lock import exclusive

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys
from pathlib import Path
from modelforge.runs.process.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_thread_that_holds_the_lock_enters_again(tmp_path):
    path = tmp_path / "deep" / "lock"
    with exclusive(path), exclusive(path):
        pass
    with exclusive(path, 0.0):
        pass


def test_another_thread_waits(tmp_path):
    path = tmp_path / "lock"
    refused = []

    def try_it():
        try:
            with exclusive(path, 0.05):
                pass
        except RunError as error:
            refused.append(error)

    with exclusive(path):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_another_process_holds_it_until_it_dies(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(RunError), exclusive(path, 0.05):
            pass
        holder.kill()
    with exclusive(path, 5.0):
        pass
