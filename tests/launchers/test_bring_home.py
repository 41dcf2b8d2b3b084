"""What comes from elsewhere is checked before anything of it is used."""

from __future__ import annotations

import json
import os

import pytest

from modelforge.errors import RunError
from modelforge.launchers.bring_home import take
from modelforge.runs import checkpoints
from modelforge.runs.layout import RunFolder


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "20260101-000000-aaaa")
    folder.output.mkdir(parents=True)
    (folder.output / "old.txt").write_text("old")
    folder.config.write_text("{}")
    return folder


@pytest.fixture
def staged(tmp_path):
    folder = tmp_path / "staged"
    (folder / "output").mkdir(parents=True)
    (folder / "output" / "adapter_config.json").write_text('{"base": "/far/files/x/tiny"}')
    return folder


def test_parts_replace_those_here_and_paths_are_of_here(run, staged):
    checkpoint = staged / "checkpoints" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter_config.json").write_text('{"base": "/far/files/x/tiny"}')
    (checkpoint / "weights.safetensors").write_bytes(b"/far/files/x/tiny")
    checkpoints.write_manifest(checkpoint, step=2, stage=None)
    (staged / "config.json").write_text('{"foreign": true}')
    (staged / "unknown").mkdir()
    take(staged, run, {"/far/files/x/tiny": "/here/tiny"})
    assert [path.name for path in run.output.iterdir()] == ["adapter_config.json"]
    assert json.loads((run.output / "adapter_config.json").read_text()) == {"base": "/here/tiny"}
    newest, damaged = checkpoints.newest_valid(run)
    assert (newest.step, damaged) == (2, []), "the manifest fits the changed file"
    assert (newest.path / "weights.safetensors").read_bytes() == b"/far/files/x/tiny"
    assert run.config.read_text() == "{}", "the record is ours"
    assert not (run.path / "unknown").exists()


def test_a_damaged_checkpoint_stays_damaged(run, staged):
    checkpoint = staged / "checkpoints" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights.safetensors").write_bytes(b"12345678")
    checkpoints.write_manifest(checkpoint, step=2, stage=None)
    (checkpoint / "weights.safetensors").write_bytes(b"87654321")
    take(staged, run, {})
    assert checkpoints.newest_valid(run)[0] is None


@pytest.mark.parametrize("case", ["link", "pipe", "name"])
def test_other_kinds_of_files_are_refused_and_nothing_is_used(run, staged, case):
    if case == "link":
        (staged / "output" / "model.safetensors").symlink_to("/etc/passwd")
    elif case == "pipe":
        os.mkfifo(staged / "output" / "pipe")
    else:
        (staged / "output" / "a\x1b[31m").write_text("x")
    with pytest.raises(RunError, match="is not a usual file"):
        take(staged, run, {})
    assert [path.name for path in run.output.iterdir()] == ["old.txt"]
