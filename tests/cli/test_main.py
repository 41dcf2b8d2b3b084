"""Commands of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelforge.cli.demo import print_side_by_side
from modelforge.cli.main import main
from tests.models.folders import SMALL_LLAMA

CONTRACT = {"task": "text-generation", "model_name": "starter", "compute_specs": "low_end"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder."""
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(CONTRACT | {"dataset": "sample:captain"}), "utf-8")
    return path


def test_help_imports_nothing_heavy():
    began = time.perf_counter()
    code = "import sys; from modelforge.cli.main import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch','gradio','pydantic','trl','rich'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.rstrip().endswith("[]")
    assert time.perf_counter() - began < 5


def test_init_writes_a_valid_recipe(home, tmp_path, capsys):
    path = tmp_path / "new.yaml"
    assert main(["init", str(path)]) == 0
    assert "written" in capsys.readouterr().out
    assert main(["check", str(path), "--json"]) == 2  # no starter model in this home
    output = json.loads(capsys.readouterr().out)
    assert [problem["where"] for problem in output["problems"]] == ["model_name"]


def test_init_and_check_recommend_speed_optimizations(home_with_starter, tmp_path, capsys):
    path = tmp_path / "new.json"
    arguments = ["--home", str(home_with_starter)]
    assert main(["init", str(path), "--recommended", "--json", *arguments]) == 0
    quick = json.loads(path.read_text("utf-8"))
    assert quick["gradient_checkpointing"] is False
    slow = quick | {"gradient_checkpointing": True}
    path.write_text(json.dumps(slow), "utf-8")
    capsys.readouterr()
    assert main(["check", str(path), *arguments]) == 0
    output = capsys.readouterr().out
    assert "tokens/s" in output
    assert "Recommended settings: gradient_checkpointing=false" in output


def test_check_writes_its_result_as_a_page(home_with_starter, tmp_path, capsys):
    page = tmp_path / "report.html"
    settings = ["task=text-generation", "model_name=starter", "dataset=sample:captain"]
    arguments = [each for setting in settings for each in ("--set", setting)]
    home = ["--home", str(home_with_starter)]
    assert main(["check", *arguments, "--report", str(page), *home]) == 0
    assert "Ready to train" in page.read_text("utf-8")
    assert main(["check", *arguments, "--report", str(tmp_path / "no" / "a.html"), *home]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main(["check", "--set", "lora_r=0", "--report", str(page), *home]) == 2
    assert "Not ready" in page.read_text("utf-8")


def test_init_does_not_overwrite_files(home, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("task: text-generation\n", "utf-8")
    assert main(["init", str(path)]) == 2
    assert path.read_text("utf-8") == "task: text-generation\n"
    assert "Choose another name" in capsys.readouterr().err


def test_all_problems_of_a_recipe_are_printed_and_no_run_is_created(home, recipe, capsys):
    arguments = ["train", str(recipe), "--set", "lora_r=0", "--set", "learnin_rate=1e-4"]
    assert main(arguments) == 2
    output = capsys.readouterr().err
    assert "lora_r" in output
    assert "256" in output
    assert "learning_rate" in output
    assert "Traceback" not in output
    assert not (home / "runs").exists() or not list((home / "runs").iterdir())


def test_a_set_option_without_equals_sign_is_an_error(home, recipe, capsys):
    assert main(["check", str(recipe), "--set", "lora_r"]) == 2
    assert "key=value" in capsys.readouterr().err


def test_a_missing_recipe_is_an_error(home, tmp_path, capsys):
    assert main(["check", str(tmp_path / "gone.yaml")]) == 2
    assert "gone.yaml" in capsys.readouterr().err


def test_an_empty_run_list_suggests_the_demo(home, capsys):
    assert main(["runs", "list"]) == 0
    assert "modelforge demo" in capsys.readouterr().out
    assert main(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("run_id", ["20990101-000000-none", "../../etc", ""])
def test_an_unknown_run_is_an_error(home, run_id, capsys):
    assert main(["runs", "show", run_id]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_problems_are_printed_as_json(home, tmp_path, capsys):
    assert main(["check", str(tmp_path / "gone.yaml"), "--json"]) == 2
    problem = json.loads(capsys.readouterr().out)["problems"][0]
    assert set(problem) == {"where", "what", "remedy"}


def test_schema_prints_the_settings(capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["lora_r"]["maximum"] == 256


def test_two_answers_are_printed_side_by_side(capsys):
    print_side_by_side("before", "one " * 30, "after", "two")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["before", "after"]
    assert all(len(line) <= 113 for line in lines)
    assert lines[1].endswith("two")


def test_the_module_runs_as_a_command(home):
    run = subprocess.run(
        [sys.executable, "-m", "modelforge", "runs", "list", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert json.loads(run.stdout) == []


@pytest.mark.parametrize("verb", ["resume", "continue"])
def test_an_unknown_run_cannot_be_continued(home, verb, capsys):
    assert main(["runs", verb, "20990101-000000-none"]) == 2
    assert "There is no run" in capsys.readouterr().err


def test_a_run_is_continued_by_at_least_one_epoch(home, capsys):
    assert main(["runs", "continue", "a-run", "--epochs", "0"]) == 2
    assert "--epochs" in capsys.readouterr().err


def test_the_profile_of_the_machine_is_filled_in_and_memory_is_shown_without_weights(
    home, tmp_path, capsys
):
    model, path = tmp_path / "model", tmp_path / "four.yaml"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(SMALL_LLAMA), "utf-8")
    lines = {"task": "text-generation", "model_name": str(model), "dataset": "sample:captain"}
    path.write_text(json.dumps(lines | {"strategy": "sft", "use_4bit": False}), "utf-8")
    assert main(["check", str(path), "--json"]) == 2
    checked = json.loads(capsys.readouterr().out)
    [problem] = checked["problems"]
    assert (problem["where"], ".safetensors" in problem["what"]) == ("model_name", True)
    assert checked["memory_total_gib"] > 0
    assert not checked["ready"]
    assert main(["check", str(path)]) == 2
    assert "Not ready." in capsys.readouterr().out
