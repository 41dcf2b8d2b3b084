"""Progress line of a running command."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from modelforge.setup.progress import StageLine, display_text, run_watched


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("WARNING: Location 'file:///x' is ignored", None),
        ("", None),
        ("Progress 5000000 of 20000000", "25% of 20 MB"),
        ("PROGRESS 0.45 Unpacking the weights", "45% Unpacking the weights"),
        ("PROGRESS 1 done", "100% done"),
        ("Installing collected packages: a, b, c", "Installing 3 packages"),
        ("  Downloading torch.whl (190 MB)", "Downloading torch.whl (190 MB)"),
    ],
)
def test_output_is_shortened_for_display(line: str, text: str | None) -> None:
    assert display_text(line) == text


def test_a_long_line_is_cut() -> None:
    assert display_text("x" * 500) == "x" * 97 + "..."


def test_a_terminal_line_is_rewritten_and_a_file_gets_plain_lines() -> None:
    terminal, file = Terminal(), io.StringIO()
    for out in (terminal, file):
        line = StageLine("[1/2] PyTorch", out)
        line.show("Downloading")
        line.show("Downloading")
        line.end("done")
    assert terminal.getvalue().count("\r") == 3
    assert terminal.getvalue().count("\n") == 1
    assert "Downloading" in terminal.getvalue()
    assert file.getvalue() == "[1/2] PyTorch ...\n[1/2] PyTorch: done (0 s)\n"


def test_all_output_of_a_command_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "setup.log"
    code = "import sys; print('PROGRESS 0.5 half'); print('late', file=sys.stderr); sys.exit(3)"
    out = Terminal()
    outcome = run_watched(
        [sys.executable, "-u", "-c", code],
        StageLine("x", out),
        log,
        env=dict(os.environ),
        cwd=tmp_path,
    )
    assert outcome == (3, ["PROGRESS 0.5 half", "late"])
    assert "50% half" in out.getvalue()
    assert "late" in log.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="a group of processes of Unix")
def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    child = "import subprocess, sys, time; code = 'import time; time.sleep(60)'; "
    child += "p = subprocess.Popen([sys.executable, '-c', code]); print(p.pid, flush=True); "
    child += "time.sleep(60)"
    log = tmp_path / "setup.log"
    with pytest.raises(TimeoutError):
        run_watched(
            [sys.executable, "-u", "-c", child],
            StageLine("x", io.StringIO()),
            log,
            env=dict(os.environ),
            cwd=tmp_path,
            limit_s=3.0,
        )
    pid = log.read_text("utf-8").splitlines()[-1]
    deadline = time.monotonic() + 20
    while _is_running(int(pid)):
        assert time.monotonic() < deadline, "the child of the command is still running"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
