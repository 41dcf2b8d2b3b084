"""The start of the server, and what its processes inherit and what it asks before it installs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelforge.paths import Home
from modelforge.runs.process.identity import child_environment
from modelforge.services.export_history import _cell

ROOT = Path(__file__).resolve().parents[2]


def test_a_short_password_is_refused_in_words_even_without_an_environment(tmp_path):
    environment = {"PYTHONPATH": str(ROOT), "MODELFORGE_PASSWORD": "short"}
    done = subprocess.run(
        [sys.executable, "-m", "ui", "--listen", "--home", tmp_path / "home", "--port", "0"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "Use at least 8" in done.stderr
    assert "Traceback" not in done.stderr


START = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
from ui.__main__ import _exit, main
_exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a signal of POSIX")
def test_the_server_shuts_down_with_its_terminal(tmp_path):
    command = [sys.executable, "-c", START, "--home", str(tmp_path / "home"), "--port", "0"]
    with subprocess.Popen(
        [*command, "--no-browser"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout
        assert "ModelForge is at" in server.stdout.readline()
        server.send_signal(signal.SIGHUP)
        assert "ModelForge has stopped." in server.stdout.read()
    assert server.returncode == 0


def test_child_processes_do_not_inherit_the_password(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELFORGE_PASSWORD", "correct horse")
    monkeypatch.setenv("HF_TOKEN", "kept")
    environment = child_environment(Home(tmp_path))
    assert "MODELFORGE_PASSWORD" not in environment
    assert environment["HF_TOKEN"] == "kept"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"confirmed": false}', b'{"confirmed": "yes", "x": 1}']
)
def test_nothing_is_installed_without_confirmation(target, body):
    headers = {"content-type": "application/json"}
    response = target.send("/ui/extras/unsloth", method="POST", headers=headers, body=[body])
    assert response.status == 422
    assert json.loads(response.body)["problems"]


@pytest.mark.parametrize(
    "text", ["=1", "+1", "-1", "@x", "\t=1", " =1", "＝1", "＋1", "＠x", "\u200b=1", "\ufeff=1"]
)
def test_no_cell_of_an_export_is_a_formula(text):
    assert _cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["a run", "Träning", "1=1", "x-y", "日本語"])
def test_other_cells_of_an_export_are_unchanged(text):
    assert _cell(text) == text
