"""Ctrl+C while a command follows a run: what is stopped, and the exit code."""

from __future__ import annotations

import json
import sys
import time

import pytest

from modelforge.cli import follow, trial_run
from modelforge.cli import main as cli
from modelforge.cli.main import main
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs.events import EventRecord
from tests.services.test_runs import ACTORS


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder whose workers train until they are asked to stop."""
    forges = []

    def open_forge(_options) -> Forge:
        worker = [sys.executable, str(ACTORS / "obeys.py")]
        forges.append(
            Forge(Home(tmp_path / "home"), worker=worker, warm_worker=[sys.executable, "-c", ""])
        )
        return forges[-1]

    monkeypatch.setattr(cli, "_forge", open_forge)
    yield tmp_path / "home"
    for forge in forges:
        for view in forge.runs.views():
            forge.runs.stop(view.id)
        forge.close()


@pytest.fixture
def interrupted(home, monkeypatch):
    """Ctrl+C is pressed once while a run is followed, as soon as its worker has written."""

    class Clock:
        monotonic = staticmethod(time.monotonic)
        pressed = False

        @staticmethod
        def sleep(seconds):
            time.sleep(seconds)
            if not Clock.pressed and list(home.glob("*/2*/events.jsonl")):
                Clock.pressed = True
                raise KeyboardInterrupt

    for module in (follow, trial_run):
        monkeypatch.setattr(module, "time", Clock)


@pytest.mark.parametrize("is_json", [False, True])
def test_an_interrupted_run_is_stopped_and_the_code_tells(interrupted, recipe, capsys, is_json):
    assert main(["train", recipe, *(["--json"] if is_json else [])]) == 130
    output = capsys.readouterr()
    assert "Stopping after this step; the model is kept." in output.err
    if is_json:
        assert json.loads(output.out)["state"] == "stopped"


def test_an_interrupted_queue_goes_on_and_the_code_tells(interrupted, recipe, capsys, monkeypatch):
    assert main(["queue", "add", recipe, "--json"]) == 0
    capsys.readouterr()
    assert main(["queue", "run", "--json"]) == 130
    [run] = json.loads(capsys.readouterr().out)
    assert run["state"] == "stopped"


def test_an_interrupted_trial_run_keeps_nothing(interrupted, home, recipe, capsys):
    assert main(["trial-run", recipe]) == 130
    assert "Stopped; nothing is kept." in capsys.readouterr().err


def test_a_run_is_discarded_only_when_the_user_agrees(home, recipe, capsys, monkeypatch):
    assert main(["train", recipe, "--detach"]) == 0
    run_id = capsys.readouterr().out.strip()
    asked = []
    monkeypatch.setattr("modelforge.cli.parsing.confirm", lambda text: asked.append(text) or False)
    assert main(["runs", "stop", run_id, "--discard"]) == 2
    assert asked[0].endswith(f"({run_id}) and discard its model?")
    assert "--discard: The run was not stopped. Add --yes." in capsys.readouterr().err
    assert not (home / "runs" / run_id / "stop").exists()
    assert main(["runs", "stop", run_id, "--discard", "--yes"]) == 0
    assert len(asked) == 1


def test_an_evaluation_of_rewards_has_no_loss(capsys):
    progress = follow.RunProgress(lambda: None)
    data = {"loss": None, "best": True, "metrics": {"reward": 0.25}}
    progress.show(EventRecord(1, 0.0, "eval", data))
    assert capsys.readouterr().out == "Evaluation reward 0.250 (best so far)\n"
