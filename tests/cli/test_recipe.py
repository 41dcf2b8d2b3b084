"""Relative paths of a recipe: from the current folder, else from that of the recipe."""

from __future__ import annotations

import json

import pytest

from modelforge.cli.main import main
from modelforge.cli.recipe import read_recipe
from modelforge.paths import Home

ROWS = "".join(json.dumps({"input": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(12))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "rows.jsonl").write_text(ROWS, "utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def write(folder, **settings):
    path = folder / "recipe.json"
    path.write_text(json.dumps(settings), "utf-8")
    return path


def test_data_beside_the_recipe_is_found_from_another_folder(project, capsys):
    path = write(project, task="text-generation", model_name="starter", dataset="rows.jsonl")
    assert main(["check", str(path), "--json"]) == 2  # no starter model in this home
    output = capsys.readouterr()
    assert [problem["where"] for problem in json.loads(output.out)["problems"]] == ["model_name"]
    taken = f"rows.jsonl is taken from the folder of the recipe: {project / 'rows.jsonl'}"
    assert taken in output.err


def test_the_current_folder_comes_first(project, capsys, home):
    path = write(project, dataset="rows.jsonl")
    (project.parent / "elsewhere" / "rows.jsonl").write_text(ROWS, "utf-8")
    assert read_recipe(path, home) == {"dataset": "rows.jsonl"}
    assert capsys.readouterr().err == ""


def test_every_setting_that_may_be_a_path_is_looked_for(project, home):
    (project / "model").mkdir()
    (project / "starter").mkdir()
    rows, model = str(project / "rows.jsonl"), str(project / "model")
    path = write(
        project,
        model_name="model",
        adapter={"start_from": "model"},
        trainer={"reward_model": "model"},
        data={"sources": [{"path": "rows.jsonl"}, {"path": "sample:captain"}]},
        **{"data.validation_sources": [{"path": "rows.jsonl"}]},
    )
    recipe = read_recipe(path, home)
    assert recipe["model_name"] == recipe["adapter"]["start_from"] == model
    assert recipe["trainer"]["reward_model"] == model
    assert [source["path"] for source in recipe["data"]["sources"]] == [rows, "sample:captain"]
    assert read_recipe(write(project, **{"adapter.start_from": "model"}), home) == {
        "adapter.start_from": model
    }
    for name in ("starter", "no-such-thing", "Qwen/Qwen3-0.6B"):
        assert read_recipe(write(project, model_name=name), home) == {"model_name": name}


def test_values_of_other_kinds_are_left_to_the_check(project, home):
    settings = {"dataset": 3, "model_name": None, "adapter": "x", "data": {"sources": "rows"}}
    assert read_recipe(write(project, **settings), home) == settings
