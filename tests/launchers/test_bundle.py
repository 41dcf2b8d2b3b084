"""What is sent: code as a wheel, files under names of their own, and no path of this computer."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from modelforge import __version__
from modelforge.config.resolve import Layer
from modelforge.errors import ConfigError
from modelforge.launchers.bundle import make_bundle
from modelforge.launchers.paths_there import HERE, with_home
from modelforge.launchers.wheel import build_code
from modelforge.runs.process.launch import Target
from modelforge.services.start import new_run
from tests.launchers.conftest import PAIRS

BOX = Target("box", "ssh", "box")


@pytest.fixture
def run(quick_forge, recipe):
    checked = quick_forge.preflight.check(Layer("body", recipe))
    return quick_forge.runs._store.create(new_run(checked))


def test_a_bundle_is_a_home_folder_that_names_no_path_of_this_computer(
    quick_forge, run, recipe, tmp_path
):
    bundle = make_bundle(run, quick_forge.home, BOX)
    staged = tmp_path / "staged"
    bundle.stage(staged)
    record = (staged / "runs" / run.id / "config.json").read_text()
    assert str(tmp_path) not in record
    there = with_home(json.loads(record), str(staged))
    assert Path(there["plan"]["model_path"], "config.json").is_file()
    rows = Path(there["dataset"]["sources"][0]["files"][0]).read_text().splitlines()
    assert [json.loads(row) for row in rows] == PAIRS
    assert run.config.read_text() != record, "the record here keeps the paths of here"
    assert json.loads(run.config.read_text())["plan"]["model_path"] == recipe["model_name"]


def test_changed_data_gets_another_name(quick_forge, run, recipe):
    before = make_bundle(run, quick_forge.home, BOX)
    Path(recipe["dataset"]).write_text(json.dumps(PAIRS[0]) + "\n", "utf-8")
    after = make_bundle(run, quick_forge.home, BOX)
    assert before.files != after.files
    assert set(before.files.values()) == set(after.files.values())


def test_a_home_folder_is_not_sent(quick_forge, run):
    record = json.loads(run.config.read_text())
    record["config"]["dataset"] = str(Path.home())
    run.config.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="is too much to send"):
        make_bundle(run, quick_forge.home, BOX)


def test_a_log_file_of_this_computer_is_not_written_there(quick_forge, run, tmp_path):
    record = json.loads(run.config.read_text())
    record["config"]["logging"] = {"log_file": str(tmp_path / "a.log"), "run_name": "kept"}
    run.config.write_text(json.dumps(record))
    bundle = make_bundle(run, quick_forge.home, BOX)
    assert bundle.record["config"]["logging"] == {"run_name": "kept"}


def test_only_paths_that_begin_with_the_mark_are_replaced():
    data = {"a": [f"{HERE}/files/x", f"see {HERE}/files", HERE], "n": 1}
    assert with_home(data, "/far") == {"a": ["/far/files/x", f"see {HERE}/files", HERE], "n": 1}


def test_the_wheel_is_one_that_pip_installs_and_that_runs(tmp_path):
    code = build_code(tmp_path)
    place = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", str(place), str(code.wheel)], check=True)
    shown = subprocess.run(
        [sys.executable, "-m", "modelforge", "--version"],
        env={"PYTHONPATH": str(place)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == f"modelforge {__version__}"
    names = zipfile.ZipFile(code.wheel).namelist()
    assert "modelforge/shipped/profiles/low_end.toml" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_the_pins_are_the_versions_of_this_environment(tmp_path):
    code = build_code(tmp_path)
    assert f"torch=={version('torch').partition('+')[0]}" in code.pins
    assert any(pin.startswith("numpy==") for pin in code.pins), "what is needed indirectly, too"
    assert not [pin for pin in code.pins if pin.startswith(("nvidia", "pytest"))]


def test_the_same_code_gives_the_same_wheel(tmp_path):
    build_code.cache_clear()
    first = build_code(tmp_path / "a")
    second = build_code(tmp_path / "b")
    assert first.key == second.key
    assert first.wheel.read_bytes() == second.wheel.read_bytes()


def test_an_unknown_extra_is_named(tmp_path):
    with pytest.raises(ConfigError, match="'everything' is not an extra"):
        build_code(tmp_path, ("everything",))
