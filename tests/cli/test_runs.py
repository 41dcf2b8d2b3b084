"""`modelforge runs`: list, notes, tags and comparison."""

from __future__ import annotations

import json
import re

import pytest

from modelforge.cli.main import main
from tests.runs.homes import put_run


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def runs(home):
    return [
        put_run(home, 1, name="Cook", lora_r=8).id,
        put_run(home, 2, name="other", ending="failed").id,
        put_run(home, 3, name="third").id,
    ]


def listed(capsys, *arguments):
    assert main(["runs", "list", "--json", *arguments]) == 0
    return [run["id"] for run in json.loads(capsys.readouterr().out)]


def test_runs_are_filtered_by_words_state_and_tag(runs, capsys):
    assert listed(capsys) == runs
    assert listed(capsys, "--query", "cook starter") == runs[:1]
    assert listed(capsys, "--state", "failed", "--state", "lost") == runs[1:2]
    assert listed(capsys, "--limit", "2") == runs[:2]
    assert listed(capsys, "--sort", "name") == runs
    assert main(["runs", "tag", runs[2], "keep", "good"]) == 0
    assert main(["runs", "tag", runs[2], "--remove", "good"]) == 0
    capsys.readouterr()
    assert listed(capsys, "--tag", "keep") == runs[2:]
    assert listed(capsys, "--tag", "good") == []


def test_the_list_prints_the_number_of_remaining_runs(runs, capsys):
    main(["runs", "list", "--limit", "1"])
    assert "2 more." in capsys.readouterr().out
    main(["runs", "list", "--query", "nobody"])
    assert "No run matches." in capsys.readouterr().out


def test_an_unknown_state_is_an_error(runs, capsys):
    assert main(["runs", "list", "--state", "sleeping"]) == 2
    assert "finished" in capsys.readouterr().err


def test_notes_and_names_are_saved(runs, capsys):
    assert main(["runs", "note", runs[0], "the good one", "--name", "Ahab", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "Ahab"
    main(["runs", "list", "--query", "good ahab"])
    assert runs[0] in capsys.readouterr().out
    assert main(["runs", "note", "nobody", "x"]) == 2


def test_two_runs_are_compared_and_exported(runs, tmp_path, capsys):
    table, page = tmp_path / "runs.csv", tmp_path / "runs.html"
    arguments = ["runs", "compare", *runs[:2], "--csv", str(table), "--html", str(page)]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "lora_r" in output
    assert re.search(r"lora_r +8 +16", output)
    assert "same data" in output
    assert len(table.read_text().splitlines()) == 7
    assert page.read_text().startswith("<!doctype html>")
    assert main([*arguments[:4], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same_settings"] > 30
    assert main(["runs", "compare", runs[0]]) == 2


def test_deleted_runs_are_listed_restored_and_removed(runs, home, capsys):
    assert main(["runs", "delete", *runs[:2], "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": runs[:2]}
    assert main(["runs", "deleted"]) == 0
    assert "Cook" in capsys.readouterr().out
    assert main(["runs", "restore", runs[0]]) == 0
    capsys.readouterr()
    assert listed(capsys) == [runs[0], runs[2]]
    assert main(["runs", "deleted", "--empty"]) == 2  # no terminal
    assert "Nothing was removed. Add --yes." in capsys.readouterr().err
    assert main(["runs", "deleted", "--empty", "--yes"]) == 0
    assert main(["runs", "restore", runs[1]]) == 2
    assert not list(home.glob("runs/.deleted/*"))
