"""`modelforge import`: files and command lines of other systems at the terminal."""

from __future__ import annotations

import json

import pytest

from modelforge.cli.main import main
from modelforge.config.recipe import load_recipe

SUROGATE = "model: acme/pine\nsample_packing: true\nlora_rank: 8\nrecipe: nvfp4\n"
FACTORY = (
    "model_name_or_path: acme/pine\nstage: sft\nfinetuning_type: lora\n"
    "dataset: letters\ntemplate: pine\n"
)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))


@pytest.fixture
def surogate(tmp_path):
    path = tmp_path / "theirs.yaml"
    path.write_text(SUROGATE, "utf-8")
    return path


def test_a_file_is_recognised_and_its_recipe_printed(surogate, capsys):
    assert main(["import", str(surogate)]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Surogate. Recognised by ")
    assert "sample_packing" in output
    assert "As a frozen base: qlora_fp4" in output
    assert "defaults of Surogate are written out too." in output
    assert "\nmodel_name: acme/pine\n" in output


def test_the_recipe_is_written_once(surogate, tmp_path, capsys):
    recipe = tmp_path / "ours.yaml"
    assert main(["import", str(surogate), "--out", str(recipe)]) == 0
    assert load_recipe(recipe)["lora_r"] == 8
    assert capsys.readouterr().out.endswith(f"{recipe}: written.\n")
    before = recipe.read_bytes()
    assert main(["import", str(surogate), "--out", str(recipe)]) == 2
    assert recipe.read_bytes() == before


def test_json_has_system_recipe_and_report(surogate, capsys):
    assert main(["import", str(surogate), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["system"] == "surogate"
    assert found["recipe"]["packing"] is True
    line = next(line for line in found["report"] if line["name"] == "recipe")
    assert (line["line"], line["value"], line["result"]) == (4, "nvfp4", "refused")
    assert set(line) == {"line", "name", "value", "result", "setting", "why", "is_default"}


def test_a_command_line_is_read_too(capsys):
    command = "trl sft --model_name_or_path acme/pine --max_steps 7"
    assert main(["import", command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["max_steps"] == 7


def test_the_data_of_llama_factory_is_found_beside_the_file(tmp_path, capsys):
    (tmp_path / "sft.yaml").write_text(FACTORY, "utf-8")
    (tmp_path / "dataset_info.json").write_text('{"letters": {"file_name": "l.json"}}', "utf-8")
    assert main(["import", str(tmp_path / "sft.yaml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"]["dataset"] == str(tmp_path / "l.json")


def test_a_system_can_be_named(tmp_path, capsys):
    (tmp_path / "few.yaml").write_text("learning_rate: 1.0e-4\nweight_decay: 0.1\n", "utf-8")
    assert main(["import", str(tmp_path / "few.yaml")]) == 2
    assert "--from" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "few.yaml"), "--from", "trl"]) == 0
    assert main(["import", str(tmp_path / "few.yaml"), "--from", "keras"]) == 2


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"{SUROGATE}qlora_bnb: true\nqlora_fp8: true\n", "line 6, qlora_fp8"),
        (f"{SUROGATE}lora_rank: 9\n", "line 5, column 1"),
        ("model: !!python/object/apply:os.system [ls]\n", "line 1, column 8"),
        ("colour: red\n", "It is not recognised"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(text, where, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text(text, "utf-8")
    recipe = tmp_path / "ours.yaml"
    assert main(["import", str(tmp_path / "bad.yaml"), "--out", str(recipe)]) == 2
    assert where in capsys.readouterr().err
    assert not recipe.exists()


def test_a_file_that_does_not_exist_is_named(tmp_path, capsys):
    assert main(["import", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text(f'{SUROGATE}run_name: "a\\e[31mb"\n"o\\eption": 1\n', "utf-8")
    main(["import", str(path)])
    output = capsys.readouterr()
    assert "\x1b" not in output.out + output.err
