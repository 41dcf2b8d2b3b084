"""`modelforge samples RUN`, and the same over REST."""

from __future__ import annotations

import json

import pytest

from modelforge.cli.main import main
from modelforge.runs.event_types import EvalEvent, PlanEvent, SamplesEvent, StartedEvent
from modelforge.runs.events import EventWriter
from tests.runs.homes import put_run


def answer(text, **more):
    known = {"prompt": "Who?", "source": "evaluation", "expected": "Me.", "tokens": 2, "cut": False}
    return known | {"text": text} | more


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    folder = put_run(tmp_path / "home", 1)
    folder.events.unlink()
    with EventWriter(folder.events) as events:
        events.write(StartedEvent(pid=1, birth=1.0))
        events.write(SamplesEvent(step=0, answers=[answer("You\x1b[31m.", cut=True)], seconds=1.5))
        events.write(PlanEvent(total_steps=4, epochs=2.0))
        events.write(EvalEvent(step=4, loss=0.25))
        events.write(SamplesEvent(step=4, answers=[answer("Me.")], seconds=0.5))
    return folder.id


def test_samples_are_printed_prompt_by_prompt(run, capsys):
    assert main(["samples", run]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Who?  (evaluation)"
    assert lines[1].startswith("  base  You")
    assert lines[1].endswith(". [cut]")
    assert "\x1b" not in lines[1]
    assert lines[2:4] == ["  step 4  loss 0.25  Me.", "  expected  Me."]


def test_samples_as_json_have_step_epoch_and_loss(run, capsys):
    assert main(["samples", run, "--json"]) == 0
    first, last = json.loads(capsys.readouterr().out)
    assert (first["step"], first["epoch"], first["eval_loss"]) == (0, 0.0, None)
    assert (last["step"], last["epoch"], last["eval_loss"]) == (4, 2.0, 0.25)
    assert last["answers"] == [answer("Me.")]
    assert last["seconds"] == 0.5


def test_a_run_without_samples_says_how_to_get_some(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    run = put_run(tmp_path / "home", 2).id
    assert main(["samples", run]) == 0
    assert "evaluation.samples" in capsys.readouterr().out
    assert main(["samples", "20260101-000000-ffff"]) != 0
