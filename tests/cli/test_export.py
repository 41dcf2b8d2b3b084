"""`modelforge export` and `modelforge exports`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import get_args

import pytest

from modelforge.cli import export, job_progress
from modelforge.cli import main as program
from modelforge.cli.main import main
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.runs import exports
from tests.services.exports.conftest import ACTOR, put_model, put_trained


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(home, tmp_path):
    return put_trained(home, put_model(tmp_path / "tiny"), name="Support desk")


@pytest.fixture
def behaves(home, monkeypatch):
    """Choose how the stand-in exporter behaves."""

    def set_behaviour(how: str) -> None:
        command = [sys.executable, str(ACTOR), how]
        monkeypatch.setattr(program, "_forge", lambda _options: Forge(Home(home), exporter=command))

    set_behaviour("finishes")
    return set_behaviour


def test_an_export_is_shown_until_it_is_done(run, behaves, capsys):
    assert main(["export", run.id, "--format", "merged"]) == 0
    out = capsys.readouterr().out
    assert "Merging the adapter (" in out
    assert "Support desk, merged: finished." in out
    assert "same answers on 20 of 20 prompts" in out
    assert "model.safetensors" in out


def test_json_has_what_programs_need(run, behaves, capsys):
    assert main(["export", run.id, "--format", "adapter", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data.keys() >= {"id", "state", "path", "files", "self_test"}
    assert data["state"] == "finished"
    assert data["files"] == [{"name": "model.safetensors", "bytes": 3000}]
    assert data["self_test"]["passed"] is True
    assert (Path(data["path"]) / "model.safetensors").is_file()
    assert main(["exports", "show", data["id"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == data["id"]


def test_equal_logits_do_not_hide_what_rounding_changes():
    test = {"prompts": 20, "same_text": 7, "max_logit_difference": 0.0}
    assert export._test_text(test).endswith("equal logits.")
    assert "alone moves them by up to 3.75." in export._test_text(test | {"rounding": 3.75})


def test_a_failed_self_test_has_exit_code_1(run, behaves, capsys):
    behaves("refuses")
    assert main(["export", run.id, "--format", "merged", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["state"], data["self_test"]["cause"]) == ("failed", "wrong base")
    assert main(["export", run.id, "--format", "merged"]) == 1
    out = capsys.readouterr().out
    assert "Folder (not usable): " in out
    assert "Logits differ. Export again." in out


def test_wrong_input_has_exit_code_2(run, behaves, capsys):
    assert main(["export", "absent", "--format", "merged", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["problems"][0]["where"] == "run"
    assert main(["export", run.id, "--format", "zip"]) == 2
    assert main(["export", run.id, "--format", "merged", "--adapter", "x=much"]) == 2
    assert "'much' is not a number. Write RUN=0.5." in capsys.readouterr().err


def test_ctrl_c_stops_the_export(run, behaves, home, monkeypatch, capsys):
    behaves("waits")

    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(job_progress, "sleep", interrupt)
    assert main(["export", run.id, "--format", "merged", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"
    assert Forge(Home(home)).exports.active() is None


def test_exports_are_listed_and_deleted(run, behaves, capsys):
    assert main(["exports", "list"]) == 0
    assert capsys.readouterr().out == "No exports yet.\n"
    main(["export", run.id, "--format", "gguf", "--quantization", "q8_0", "--json"])
    export_id = json.loads(capsys.readouterr().out)["id"]
    assert main(["exports", "list", "--run", run.id]) == 0
    assert "gguf q8_0" in capsys.readouterr().out
    assert main(["exports", "delete", export_id]) == 2
    assert main(["exports", "delete", export_id, "--yes"]) == 0
    assert main(["exports", "show", export_id]) == 2


def test_a_prediction_starts_nothing(run, behaves, capsys):
    assert main(["export", run.id, "--format", "gguf", "--predict", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] > 0
    assert main(["export", run.id, "--format", "gguf", "--predict"]) == 0
    assert "Disk while working" in capsys.readouterr().out
    main(["exports", "list", "--json"])
    assert json.loads(capsys.readouterr().out) == []


def test_the_choices_are_those_of_the_request():
    assert export.FORMATS == exports.FORMATS
    assert export.QUANTIZATIONS == exports.QUANTIZATIONS
    assert export.PRECISIONS == exports.PRECISIONS
    assert export.COMBINATIONS == exports.COMBINATIONS
    kinds = exports.ExportRequest.__annotations__["content"]
    assert all(content in str(kinds) for content in export.CONTENTS)
    assert get_args(exports.Quantization) == export.QUANTIZATIONS
