"""Settings as files of other systems, written beside the rows that they read."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from modelforge.config.resolve import Layer
from modelforge.errors import ConfigError, NotFoundError, RunError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.services.exports.settings import SettingsExportService

# Stands in for the process with the training stack, which writes the rows beside the script.
WRITES = """
import json, sys
from pathlib import Path
record, script = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
assert {"config", "plan", "dataset"} == set(record)
(script.parent / "eject_rows.parquet").write_text(record["dataset"]["sources"][0]["files"][0])
print("a line of a library")
print(json.dumps({"files": ["eject_rows.parquet"], "train_rows": 4, "eval_rows": 0,
                  "end_token": "", "other_tokens": 0}))
"""
FAILS = """
import json
print(json.dumps({"what": "No row has a trained token.", "remedy": "Add rows."}))
raise SystemExit(1)
"""


@pytest.fixture
def forge(tmp_path):
    forge = Forge(Home(tmp_path / "home"))
    yield forge
    forge.close()


@pytest.fixture
def service(forge, tmp_path):
    def make(program=WRITES):
        path = tmp_path / "stand_in.py"
        path.write_text(program, "utf-8")
        return SettingsExportService(
            forge.home, forge.preflight, forge.runs.folder, [sys.executable, str(path)]
        )

    return make


def test_a_file_of_trl_names_the_file_of_the_rows(service, settings, data):
    exports = service()
    source = exports.of_settings(Layer("recipe", settings), system="trl")
    options = yaml.safe_load(exports.export(source, "trl").text)
    assert options["datasets"] == [{"path": "json", "data_files": str(data)}]


def test_a_sample_is_a_file_for_the_others(service, settings):
    exports = service()
    layer = Layer("recipe", {**settings, "dataset": "sample:captain"})
    source = exports.of_settings(layer, system="axolotl")
    (entry,) = yaml.safe_load(exports.export(source, "axolotl").text)["datasets"]
    assert entry["path"].startswith("/")
    assert "captain" in entry["path"]


def test_columns_that_are_detected_here_are_named_there(service, settings):
    exports = service()
    layer = Layer("recipe", {**settings, "dataset": "sample:units"})
    source = exports.of_settings(layer, system="axolotl")
    (entry,) = yaml.safe_load(exports.export(source, "axolotl").text)["datasets"]
    assert entry["type"] == "alpaca"
    assert (entry["field_instruction"], entry["field_output"]) == ("instruction", "output")
    lost = {line.setting for line in exports.export(source, "trl").left_out}
    assert lost >= {"data.sources[0].instruction_field", "data.sources[0].output_field"}
    usual = exports.of_settings(
        Layer("recipe", {**settings, "dataset": "sample:support"}), system="trl"
    )
    lost = {line.setting for line in exports.export(usual, "trl").left_out}
    assert not any(name.startswith("data.sources") for name in lost)


def test_rows_are_written_beside_the_file(service, settings, tmp_path):
    exports = service()
    out = tmp_path / "there" / "birds.yaml"
    out.parent.mkdir()
    source = exports.of_settings(Layer("recipe", settings), system="trl")
    exported, files = exports.write(source, "trl", out, with_data=True)
    assert files == [out, out.parent / "birds_rows.jsonl"]
    assert out.read_text("utf-8") == exported.text
    options = yaml.safe_load(exported.text)
    assert options["datasets"] == [{"path": "json", "data_files": "birds_rows.jsonl"}]
    rows = [json.loads(line) for line in files[1].read_text("utf-8").splitlines()]
    assert rows
    assert all(set(row) == {"prompt", "completion"} for row in rows)
    assert rows[0]["completion"][0]["role"] == "assistant"


def test_the_description_of_the_data_stands_beside_the_file(service, settings, tmp_path):
    exports = service()
    source = exports.of_settings(Layer("recipe", settings), system="llama-factory")
    exports.write(source, "llama-factory", tmp_path / "lf.yaml")
    info = json.loads((tmp_path / "dataset_info.json").read_text("utf-8"))
    assert yaml.safe_load((tmp_path / "lf.yaml").read_text("utf-8"))["dataset"] in info


def test_a_script_has_its_rows_beside_it(service, settings, data, tmp_path):
    exports = service()
    source = exports.of_settings(Layer("recipe", settings), system="script")
    exported, files = exports.write(source, "script", tmp_path / "eject.py")
    assert files == [tmp_path / "eject.py", tmp_path / "eject_rows.parquet"]
    assert files[1].read_text("utf-8") == str(data), "the process was given the record"
    text = files[0].read_text("utf-8")
    assert 'from_parquet(str(HERE / "eject_rows.parquet"))' in text
    # No evaluation row was usable, although some were set aside.
    assert "eval_rows" not in text
    assert exported.data == "eject_rows.parquet"


def test_why_rows_cannot_be_prepared_is_told(service, settings, tmp_path):
    exports = service(FAILS)
    source = exports.of_settings(Layer("recipe", settings), system="script")
    with pytest.raises(RunError, match=r"No row has a trained token\. Add rows\."):
        exports.write(source, "script", tmp_path / "eject.py")
    assert not (tmp_path / "eject.py").exists()


def test_a_process_that_says_nothing_is_told_too(service, settings, tmp_path):
    exports = service("raise SystemExit(3)")
    source = exports.of_settings(Layer("recipe", settings), system="script")
    with pytest.raises(RunError, match="doctor"):
        exports.write(source, "script", tmp_path / "eject.py")


@pytest.mark.parametrize("taken", ["lf.yaml", "dataset_info.json"])
def test_no_file_is_replaced(service, settings, tmp_path, taken):
    (tmp_path / taken).write_text("mine", "utf-8")
    exports = service()
    source = exports.of_settings(Layer("recipe", settings), system="llama-factory")
    with pytest.raises(ConfigError, match="exists"):
        exports.write(source, "llama-factory", tmp_path / "lf.yaml")
    assert (tmp_path / taken).read_text("utf-8") == "mine"
    assert len(list(tmp_path.glob("*.yaml"))) == (taken == "lf.yaml")


def test_a_run_that_does_not_exist(service):
    with pytest.raises(NotFoundError):
        service().of_run("20260101-000000-0000")


def test_a_script_needs_a_model_that_exists(service, settings):
    layer = Layer("recipe", {**settings, "model_name": "/nowhere"})
    with pytest.raises(NotFoundError):
        service().of_settings(layer, system="script")
    assert service().of_settings(layer, system="trl").config.model_name == "/nowhere"
