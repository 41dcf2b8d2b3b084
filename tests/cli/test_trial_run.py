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
    assert main(["check", recipe, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["memory_basis"] == "trial_run"
    assert not list((home / "runs").glob("2*"))


@pytest.mark.parametrize("home", ["fails"], indirect=True)
def test_a_failed_trial_run_prints_the_cause(home, recipe, capsys):
    assert main(["trial-run", recipe]) == 1
    assert capsys.readouterr().err.strip()
    assert main(["trial-run", recipe, "--set", "lora_r=0"]) == 2
