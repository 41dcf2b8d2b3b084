"""Processes that end when their stdin ends."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys, time
from modelforge.stdin import when_stdin_ends
when_stdin_ends(lambda: os._exit(3))
time.sleep(float(sys.argv[1]))
"""
LIMIT_S = 60.0


def start(seconds):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(seconds)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_process_exits_normally_while_its_stdin_is_open():
    with start(0.5) as process:
        assert process.wait(LIMIT_S) == 0
        assert process.stderr.read() == b""


def test_the_action_is_called_when_stdin_ends():
    with start(LIMIT_S) as process:
        process.stdin.write(b"what is written is ignored\n")
        process.stdin.close()
        assert process.wait(LIMIT_S) == 3
