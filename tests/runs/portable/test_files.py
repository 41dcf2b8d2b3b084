"""The files of a result are those of the run, without a path of this computer in any of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelforge.errors import NotFoundError
from modelforge.runs.portable.base_model import BaseModel
from modelforge.runs.portable.files import own_files, portable_config, result_files, write_files
from tests.runs.homes import put_run

BASE = BaseModel("starter")


@pytest.fixture
def run(tmp_path):
    made = put_run(tmp_path / "home")
    record = json.loads(made.config.read_text("utf-8"))
    record["plan"]["model_path"] = str(tmp_path / "models" / "starter")
    made.config.write_text(json.dumps(record), "utf-8")
    config = {"base_model_name_or_path": record["plan"]["model_path"], "r": 8, "revision": None}
    (made.output / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    (made.output / "README.md").write_text(f"Trained on {tmp_path}.", "utf-8")
    (made.output / "tokenizer_config.json").write_text('{"name_or_path": "/x/y"}', "utf-8")
    (made.output / "more").mkdir()
    (made.output / "more" / "tool.jinja").write_text("{{ messages }}", "utf-8")
    (made.output / "link").symlink_to(tmp_path)
    return made


def written(files, target):
    target.mkdir()
    write_files(files, target)
    return {
        path.relative_to(target).as_posix(): path.read_text("utf-8")
        for path in target.rglob("*")
        if path.is_file()
    }


def test_all_files_are_written_and_none_names_this_computer(run, tmp_path):
    files = written(result_files(run), tmp_path / "out")
    assert set(files) == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "base_model.json",
        "more/tool.jinja",
        "tokenizer_config.json",
    }
    assert not [name for name, text in files.items() if str(tmp_path) in text or "/x/y" in text]
    assert "trained with ModelForge" in files["README.md"]
    config = json.loads(files["adapter_config.json"])
    assert config == {"base_model_name_or_path": "starter", "r": 8, "revision": None}
    assert json.loads(files["base_model.json"])["name"] == "starter"


def test_the_revision_of_a_model_of_the_hub_is_kept():
    base = BaseModel("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "a" * 40)
    config = portable_config({"base_model_name_or_path": "/x", "revision": None, "r": 8}, base)
    assert config == {"base_model_name_or_path": base.name, "revision": "a" * 40, "r": 8}


def test_another_adapter_replaces_that_of_the_run(run, tmp_path):
    other = tmp_path / "combined"
    other.mkdir()
    (other / "adapter_model.safetensors").write_bytes(b"combined")
    (other / "README.md").write_text("from PEFT", "utf-8")
    files = dict(own_files(run, BASE, other))
    assert files["adapter_model.safetensors"] == other / "adapter_model.safetensors"
    assert "more/tool.jinja" in files
    assert "README.md" not in files


def test_progress_ends_at_one(run, tmp_path):
    shares = []
    (tmp_path / "out").mkdir()
    write_files(result_files(run), tmp_path / "out", shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_run_without_a_result_is_refused(tmp_path):
    run = put_run(tmp_path, result=False)
    with pytest.raises(NotFoundError, match="has no model"):
        list(result_files(run))


def test_a_damaged_config_is_copied_as_it_is(run, tmp_path):
    path: Path = run.output / "adapter_config.json"
    path.write_text("[1", "utf-8")
    files = dict(own_files(run, BASE))
    assert files["adapter_config.json"] == path
