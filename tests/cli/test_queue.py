"""`modelforge queue`."""

from __future__ import annotations

import json
import sys

import pytest

from modelforge.cli import main as cli
from modelforge.cli.main import main
from modelforge.forge import Forge
from modelforge.paths import Home
from tests.services.test_runs import ACTORS


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder whose workers finish at once."""

    def open_forge(_options) -> Forge:
        home = Home(tmp_path / "home")
        return Forge(home, worker=[sys.executable, str(ACTORS / "finishes.py")])

    monkeypatch.setattr(cli, "_forge", open_forge)
    return tmp_path / "home"


def read_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def queued(recipe, capsys):
    def add(*arguments: str) -> str:
        assert main(["queue", "add", recipe, "--json", *arguments]) == 0
        return read_json(capsys)["id"]

    return add


def order(capsys) -> list[str]:
    assert main(["queue", "list", "--json"]) == 0
    return [run["run"] for run in read_json(capsys)["runs"]]


def test_an_added_recipe_is_listed_with_its_position(recipe, capsys):
    assert main(["queue", "add", recipe, "--name", "night", "--after", "+2h", "--held"]) == 0
    assert "is number 1 in the queue" in capsys.readouterr().out
    assert main(["queue", "list"]) == 0
    listed = capsys.readouterr().out
    assert "night" in listed
    assert "held" in listed
    assert "after " in listed
    assert "Every waiting run is held." in listed


def test_train_with_queue_starts_no_run(recipe, capsys):
    assert main(["train", recipe, "--queue", "--after", "+3h", "--json"]) == 0
    run = read_json(capsys)["id"]
    assert main(["runs", "show", run, "--json"]) == 0
    assert read_json(capsys)["state"] == "queued"
    assert main(["train", recipe, "--after", "+3h"]) == 2
    assert "--queue" in capsys.readouterr().err


def test_runs_are_moved_and_removed(queued, capsys):
    first, second = queued(), queued()
    assert main(["queue", "move", second, "1"]) == 0
    capsys.readouterr()
    assert order(capsys) == [second, first]
    assert main(["queue", "remove", second]) == 2  # no terminal
    assert f"{second}: Nothing was deleted. Add --yes." in capsys.readouterr().err
    assert order(capsys) == [second, first]
    assert main(["queue", "remove", second, "--yes"]) == 0
    capsys.readouterr()
    assert order(capsys) == [first]


def test_runs_and_the_whole_queue_are_held_and_released(queued, capsys):
    run = queued()
    for arguments, seen in (
        (["hold", run], lambda view: view["runs"][0]["held"]),
        (["release", run], lambda view: not view["runs"][0]["held"]),
        (["hold"], lambda view: view["code"] == "held"),
        (["release"], lambda view: view["code"] == ""),
        (["after", run, "+1h"], lambda view: view["code"] == "later"),
        (["after", run], lambda view: view["code"] == ""),
        (["settings", "--after-failure", "stop"], lambda view: not view["go_on_after_failure"]),
    ):
        assert main(["queue", *arguments, "--json"]) == 0
        assert seen(read_json(capsys)), arguments


def test_errors_are_printed_with_exit_code_2(recipe, queued, capsys):
    for arguments in (
        ["add", recipe, "--after", "soon"],
        ["add", recipe, "--set", "lora_r=0"],
        ["remove", "nobody"],
        ["hold", "nobody"],
    ):
        assert main(["queue", *arguments]) == 2
        assert capsys.readouterr().err
    assert order(capsys) == []


def test_queue_run_starts_all_runs_that_are_not_held(queued, capsys):
    runs = [queued(), queued(), queued("--held")]
    assert main(["queue", "run", "--json"]) == 0
    ended = read_json(capsys)
    assert [(view["id"], view["state"]) for view in ended] == [
        (run, "finished") for run in runs[:2]
    ]
    assert order(capsys) == runs[2:]
    assert main(["queue", "run"]) == 0
    assert "Every waiting run is held." in capsys.readouterr().out
