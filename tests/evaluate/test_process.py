"""The evaluator as a process: it finishes, or ends with its server and is queued again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelforge.runs.jobs import JobState
from tests.evaluate.conftest import prepare
from tests.services.test_runs import until

pytestmark = pytest.mark.torch
ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120.0


def start(folder):
    with folder.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "modelforge.evaluate", str(folder.path)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )


def test_it_reports_its_steps_and_writes_report_and_result(animals, speaker):
    folder = prepare(animals, speaker.output, 60, general=False, prompted=False)
    process = start(folder)
    assert process.wait(LIMIT_S) == 0, folder.log.read_text("utf-8")
    process.stdin.close()
    assert folder.state() is JobState.FINISHED
    names = [step.step for step in folder.steps()]
    assert names[:2] == ["load", "rows"]
    assert {"losses-base", "losses-tuned", "exchanged-base", "answers-tuned"} <= set(names)
    assert all(step.share == 1.0 for step in folder.steps())
    report = folder.read_report()
    assert report["verdict"]["kind"] == "better"
    assert report["learned"]["kind"] == "answers"


def test_without_its_server_it_ends_and_keeps_what_it_has_computed(animals, speaker):
    folder = prepare(animals, speaker.output, 61)
    process = start(folder)

    def has_answers():
        return folder.answers.exists() and folder.answers.stat().st_size > 0

    until(has_answers, "the first batch is computed", LIMIT_S)
    process.stdin.close()
    assert process.wait(LIMIT_S) == 1
    assert folder.state() is JobState.QUEUED
    known = folder.answers.read_text("utf-8").splitlines()
    assert known
    process = start(folder)
    assert process.wait(LIMIT_S) == 0, folder.log.read_text("utf-8")
    process.stdin.close()
    lines = folder.answers.read_text("utf-8").splitlines()
    assert lines[: len(known)] == known
    assert len(set(lines)) == len(lines)
