"""`modelforge export-settings`."""

from __future__ import annotations

import json

import pytest
import yaml

from modelforge.cli.main import main


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))


def test_the_file_is_printed_and_what_is_left_out_is_told(recipe, capsys):
    change = ["--set", "evaluation.loss_guard=true"]
    assert main(["export-settings", recipe, "--to", "axolotl", *change]) == 0
    output = capsys.readouterr()
    assert yaml.safe_load(output.out)["adapter"] == "lora"
    assert "Left out: evaluation.loss_guard: True." in output.err


def test_the_file_is_written_with_its_rows(recipe, tmp_path, capsys):
    out = tmp_path / "trl.yaml"
    assert main(["export-settings", recipe, "--to", "trl", "--out", str(out), "--data"]) == 0
    printed = capsys.readouterr().out
    assert f"{out}: written." in printed
    assert "trl sft --config trl.yaml" in printed
    assert (tmp_path / "trl_rows.jsonl").is_file()
    assert main(["export-settings", recipe, "--to", "trl", "--out", str(out)]) == 2
    assert "The file exists." in capsys.readouterr().err


def test_json_has_a_line_for_every_setting(recipe, capsys):
    assert main(["export-settings", recipe, "--to", "surogate", "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["system"] == "surogate"
    assert {"setting", "value", "result", "option", "why"} == set(exported["report"][0])
    assert exported["written"] == []


def test_a_script_is_printed_without_its_rows(recipe, capsys):
    assert main(["export-settings", recipe, "--to", "script"]) == 0
    output = capsys.readouterr()
    compile(output.out, "train.py", "exec")
    assert "--out" in output.err


def test_a_file_that_it_writes_can_be_imported(recipe, tmp_path, capsys):
    out = tmp_path / "lf.yaml"
    assert main(["export-settings", recipe, "--to", "llama-factory", "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["import", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["system"] == "llama-factory"


def test_a_command_of_nanochat_is_written_and_imported(tmp_path, capsys):
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "train.sh"
    recipe.write_text("pretraining: {enabled: true, depth: 4}\ndataset: text.txt\n", "utf-8")
    arguments = ["export-settings", str(recipe), "--to", "nanochat", "--out", str(out)]
    assert main([*arguments, "--data"]) == 2
    assert "Leave --data out." in capsys.readouterr().err
    assert main(arguments) == 0
    assert "bash train.sh" in capsys.readouterr().out
    assert main(["import", str(out), "--json"]) == 0
    imported = json.loads(capsys.readouterr().out)
    assert (imported["system"], imported["recipe"]["pretraining"]["depth"]) == ("nanochat", 4)


def test_an_unknown_run_and_an_unknown_system(recipe, capsys):
    assert main(["export-settings", "20260101-000000-0000", "--to", "trl"]) == 2
    assert "20260101-000000-0000" in capsys.readouterr().err
    assert main(["export-settings", recipe, "--to", "tlr"]) == 2
    assert "trl" in capsys.readouterr().err
