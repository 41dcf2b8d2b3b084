"""`modelforge storage`: usage, freeing, and stored files."""

from __future__ import annotations

import json

import pytest

from modelforge.cli.main import main
from tests.runs.homes import put_run


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    put_run(tmp_path / "home", 1, checkpoints=[3])
    uploads = tmp_path / "home" / "uploads"
    uploads.mkdir()
    (uploads / "mine.jsonl").write_bytes(b'{"input": "q", "output": "a"}\n')
    return tmp_path / "home"


def test_disk_usage_is_shown_and_freed_after_a_question(home, capsys):
    assert main(["storage", "usage"]) == 0
    assert "modelforge storage free checkpoints: " in capsys.readouterr().out
    assert main(["storage", "free", "checkpoints"]) == 2  # no terminal
    assert "Nothing was deleted. Add --yes." in capsys.readouterr().err
    assert main(["storage", "free", "checkpoints", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"freed": 5000}
    assert not list(home.glob("runs/*/checkpoints"))


def test_stored_files_are_listed_and_deleted(home, capsys):
    assert main(["storage", "stored"]) == 0
    assert "mine.jsonl" in capsys.readouterr().out
    assert main(["storage", "delete", "data", "absent.jsonl", "--yes"]) == 2
    assert main(["storage", "delete", "data", "mine.jsonl", "--yes"]) == 0
    assert not list(home.glob("uploads/*"))
