"""`modelforge trial-run`."""

from __future__ import annotations

import json
import sys

import pytest

from modelforge.cli import main as cli
from modelforge.cli.main import main
from modelforge.forge import Forge
from modelforge.paths import Home
from tests.services.test_runs import ACTORS


@pytest.fixture(params=["trains"])
def home(tmp_path, monkeypatch, request):
    monkeypatch.setenv("MODELFORGE_ACTOR_PACE", "0.002")
    no_worker = [sys.executable, "-c", "raise SystemExit"]

    def open_forge(_options) -> Forge:
        worker = [sys.executable, str(ACTORS / f"{request.param}.py")]
        return Forge(Home(tmp_path / "home"), worker=worker, warm_worker=no_worker)

    monkeypatch.setattr(cli, "_forge", open_forge)
    return tmp_path / "home"


def test_a_trial_run_prints_memory_and_speed(home, recipe, capsys):
    assert main(["trial-run", recipe]) == 0
    output = capsys.readouterr().out
    assert "Peak memory     1.82 GiB" in output
    assert "Checkpoint      61 MiB in 0.3 s" in output
    assert "Reward trial" not in output
    assert main(["check", recipe, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["memory_basis"] == "trial_run"
    assert not list((home / "runs").glob("2*"))


@pytest.fixture
def changes(rlhf):
    """The options that make the recipe one of RLHF."""
    names = ("dataset", "strategy")
    options = [part for name in names for part in ("--set", f"{name}={rlhf[name]}")]
    return [*options, "--set", "trainer.reward=length"]


def test_a_trial_run_of_rlhf_prints_the_verdict_on_the_reward(home, recipe, changes, capsys):
    assert main(["trial-run", recipe, *changes]) == 0
    output = capsys.readouterr().out
    assert "Reward trial: cheatable" in output
    assert "One word, repeated, gets 1.00; others get 0.87." in output
    assert "24 of 64, 38 % (26 to 50 %)" in output
    assert "  one word repeated" in output


def test_the_verdict_on_the_reward_is_in_the_json_too(home, recipe, changes, capsys):
    assert main(["trial-run", recipe, *changes, "--json"]) == 0
    trial = json.loads(capsys.readouterr().out)["trial_run"]["reward_trial"]
    assert (trial["verdict"], trial["no_signal"], trial["groups"]) == ("cheatable", 24, 64)


@pytest.mark.parametrize("home", ["fails"], indirect=True)
def test_a_failed_trial_run_prints_the_cause(home, recipe, capsys):
    assert main(["trial-run", recipe]) == 1
    assert capsys.readouterr().err.strip()
    assert main(["trial-run", recipe, "--set", "lora_r=0"]) == 2
