"""An installed wheel finds its profiles, samples and icons."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASK = """
from pathlib import Path
import modelforge
from modelforge.config.fields import specs_by_name
from modelforge.config.profiles import load_profiles
from modelforge.data.sources.library import load_samples
from modelforge.paths import resource_folder
place = Path(modelforge.__file__).parent
assert place.parent == Path.cwd() / "site", place
assert tuple(load_profiles()) == specs_by_name()["compute_specs"].choices
assert len(load_samples()) == 7 and all(sample.path.is_file() for sample in load_samples())
assert (resource_folder("assets") / "css" / "app.css").is_file()
assert (resource_folder("assets") / "general_prompts.json").is_file()
assert place in resource_folder("assets").parents
print("found")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_contains_its_resources(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    run = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "found", run.stderr


def test_the_wheel_has_the_command(wheel):
    assert wheel.name.startswith("modelforge_app-")
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "modelforge = modelforge.cli.main:main" in archive.read(entry).decode()
