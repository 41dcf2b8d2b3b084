"""A companion is heard through noise, and its end is said in words."""

from __future__ import annotations

import time

import pytest

from modelforge.errors import RunError
from modelforge.runs.process.jsonl_process import JsonlProcess


@pytest.fixture
def companion(stage):
    companion = JsonlProcess(stage.actor("echoes"), stage.home.logs / "echoes.log")
    yield companion
    companion.close(0.0)
    assert not companion.alive


def test_noise_is_passed_over(companion):
    for number in range(3):
        companion.send({"number": number, "text": "ü\n"})
    for number in range(3):
        assert companion.receive(10.0) == {"number": number, "text": "ü\n"}


def test_silence_ends_after_the_timeout(companion):
    begun = time.monotonic()
    assert companion.receive(0.05) is None
    assert time.monotonic() - begun < 5.0
    assert companion.alive


def test_a_companion_that_has_ended_is_named_with_its_code_and_its_log(companion):
    companion.send({"leave": 7})
    assert companion.receive(10.0) is None
    assert not companion.alive
    with pytest.raises(RunError) as caught:
        companion.send({"number": 1})
    problem = caught.value.problems[0]
    assert "code 7" in problem.what
    assert "logs/echoes.log" in problem.remedy
    assert companion.receive(0.0) is None


def test_what_it_prints_to_stderr_is_in_the_log(companion, stage):
    companion.send({"leave": 0})
    assert companion.receive(10.0) is None
    assert "some last words" in (stage.home.logs / "echoes.log").read_text()


def test_closing_ends_it(companion):
    companion.send({"number": 1})
    companion.receive(10.0)
    companion.close(10.0)
    assert not companion.alive
    with pytest.raises(RunError):
        companion.send({"number": 2})


def test_closing_ends_one_that_hangs(companion):
    companion.send({"hang": True})
    begun = time.monotonic()
    companion.close(0.1)
    assert not companion.alive
    assert time.monotonic() - begun < 5.0


def test_a_program_that_is_not_there_is_reported_in_words(tmp_path):
    with pytest.raises(RunError, match="/no/such/program cannot be started"):
        JsonlProcess(["/no/such/program"], tmp_path / "some.log")


def test_a_log_that_cannot_be_written_is_reported_in_words(stage, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="written"):
        JsonlProcess(stage.actor("echoes"), tmp_path / "file" / "some.log")
