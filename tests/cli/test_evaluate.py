"""`modelforge evaluate` and `modelforge evaluations`."""

from __future__ import annotations

import json
import sys

import pytest

from modelforge.cli import evaluate, job_progress
from modelforge.cli import main as program
from modelforge.cli.main import main
from modelforge.config.schema.training import EVALUATION_ROWS
from modelforge.forge import Forge
from modelforge.paths import Home
from tests.services.evaluations.conftest import ACTOR, put_rows
from tests.services.evaluations.test_at_end import ends
from tests.services.exports.conftest import put_model, put_trained


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(home, tmp_path):
    run = put_trained(home, put_model(tmp_path / "tiny"), name="Support desk")
    put_rows(run, tmp_path, rows=80)
    return run


@pytest.fixture
def behaves(home, monkeypatch):
    """Choose how the stand-in evaluator behaves."""

    def set_behaviour(how: str) -> None:
        command = [sys.executable, str(ACTOR), how]
        monkeypatch.setattr(program, "_forge", lambda _: Forge(Home(home), evaluator=command))

    set_behaviour("finishes")
    return set_behaviour


def test_an_evaluation_is_shown_until_it_is_done(run, behaves, capsys):
    assert main(["evaluate", run.id]) == 0
    out = capsys.readouterr().out
    assert "8 evaluation rows are too few" in out
    assert "The base model answers (" in out
    assert "Support desk: finished." in out
    assert "Better than the base model." in out
    assert "No clear change on general prompts." in out
    assert "2.5 (2.3 to 2.7)" in out
    assert "1.2 (1.1 to 1.3)" in out


def test_json_is_the_report_with_id_and_state(run, behaves, capsys):
    assert main(["evaluate", run.id, "--no-answers", "--rows", "30", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["verdict"]["kind"] == "better"
    assert data["metrics"][0]["contestants"]["tuned"] == {"value": 1.2, "interval": [1.1, 1.3]}
    assert data["forgetting"]["kind"] == "no-clear-change"
    assert (data["rows"], data["state"], data["run"]) == ([], "finished", run.id)
    assert data["request"] == {
        "run": run.id, "rows": 30, "answers": False, "prompted": True, "general": True,
        "prompts": "", "tasks": [], "seed": 0,
    }  # fmt: skip
    assert main(["evaluations", "show", data["id"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == data["verdict"]


def test_a_failed_evaluation_has_exit_code_1_and_the_keys_of_a_report(run, behaves, capsys):
    behaves("fails")
    assert main(["evaluate", run.id, "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["state"], data["verdict"], data["metrics"]) == ("failed", None, [])
    assert data["problem"]["what"] == "The data was changed."
    assert main(["evaluate", run.id]) == 1
    assert "The data was changed. Put the old file back." in capsys.readouterr().out


def test_wrong_input_has_exit_code_2(run, behaves, capsys):
    assert main(["evaluate", "absent", "--rows", "0", "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [problem["where"] for problem in problems] == ["rows", "run"]
    assert main(["evaluate", run.id, "--prompts", "/none.jsonl"]) == 2
    assert "There is no file /none.jsonl. Check the path." in capsys.readouterr().err
    assert main(["evaluate", run.id, "--rows", "many"]) == 2


def test_ctrl_c_stops_the_evaluation(run, behaves, home, monkeypatch, capsys):
    behaves("waits")

    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(job_progress, "sleep", interrupt)
    assert main(["evaluate", run.id, "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"
    assert Forge(Home(home)).evaluations.active() is None


def test_evaluations_are_listed_and_deleted(run, behaves, capsys):
    assert main(["evaluations", "list"]) == 0
    assert capsys.readouterr().out == "No evaluations yet.\n"
    main(["evaluate", run.id, "--json"])
    evaluation = json.loads(capsys.readouterr().out)["id"]
    assert main(["evaluations", "list", "--run", run.id]) == 0
    out = capsys.readouterr().out
    assert "better" in out
    assert "Support desk" in out
    assert main(["evaluations", "stop", evaluation]) == 0
    assert main(["evaluations", "delete", evaluation]) == 2
    assert main(["evaluations", "delete", evaluation, "--yes"]) == 0
    assert main(["evaluations", "show", evaluation]) == 2


def test_a_prediction_starts_nothing(run, behaves, capsys):
    assert main(["evaluate", run.id, "--predict", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 8
    assert main(["evaluate", run.id, "--predict"]) == 0
    out = capsys.readouterr().out
    assert "Evaluation rows" in out
    assert "too few to tell" in out
    main(["evaluations", "list", "--json"])
    assert json.loads(capsys.readouterr().out) == []


def test_a_report_with_gaps_is_printed(run, behaves, capsys):
    behaves("crashes")
    assert main(["evaluate", run.id]) == 1
    assert "The evaluator ended unexpectedly" in capsys.readouterr().out
    metric = {"name": "loss", "contestants": {"base": None, "tuned": {"value": None}}}
    assert evaluate._metric_row(metric) == ("loss", "", "", "", "0")
    rows = [{"kind": "never-learned", "lines": [3, 7], "detail": "Loss 4.1."}] * 12
    lines = list(evaluate._row_lines(rows))
    assert lines[0] == "Row 3, 7: never learned. Loss 4.1."
    assert lines[-1] == "2 more rows: add --json."
    assert len(lines) == 11


def test_the_default_is_that_of_the_request():
    assert evaluate.ROWS == EVALUATION_ROWS


def test_the_evaluation_at_the_end_of_a_run_is_shown(run, behaves, home, tmp_path, capsys):
    ends(run)
    forge = program._forge(None)
    evaluate.follow_end(forge, run.id, quiet=False)
    out = capsys.readouterr().out
    assert "The base model answers (" in out
    assert "Better than the base model." in out
    evaluate.follow_end(forge, run.id, quiet=False)
    assert capsys.readouterr().out == ""


def test_why_a_run_is_not_evaluated_at_its_end_is_said(run, behaves, tmp_path, capsys):
    ends(run)
    (tmp_path / "tiny" / "config.json").unlink()
    evaluate.follow_end(program._forge(None), run.id, quiet=False)
    assert "Not evaluated: base model: The base model tiny is not at" in capsys.readouterr().err
