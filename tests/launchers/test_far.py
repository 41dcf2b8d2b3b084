"""The commands for the other end, run in this process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelforge.launchers import far
from modelforge.launchers.wheel import build_code


@pytest.fixture
def code(tmp_path):
    made = build_code(tmp_path / "wheels")
    made.write(tmp_path / "home" / "code" / made.key)
    return made


def test_an_environment_is_made_once_with_the_versions_of_here(tmp_path, code, monkeypatch):
    calls: list[list[str]] = []

    def run(command, **_options):
        calls.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(far.subprocess, "run", run)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("modelforge.setup.system_checks.shutil.which", lambda _program: None)
    home = str(tmp_path / "home")
    made = far.install(home, code.key, "")
    assert made["differing"] == []
    assert Path(made["python"]).parents[2] == tmp_path / "home" / "environments"
    venv, torch, rest = calls
    assert venv[1:3] == ["-m", "venv"]
    pins = str(tmp_path / "home" / "code" / code.key / "pins.txt")
    assert [word for word in torch if word.startswith("torch==")]
    assert torch[-2:] == rest[-2:] == ["-c", pins]
    assert rest[-4] == "-r"
    assert far.install(home, code.key, "") == made
    assert len(calls) == 3, "the second time it is there"


def test_a_failed_installation_is_named_and_tried_again(tmp_path, code, monkeypatch):
    def run(command, stdout, **_options):
        stdout.write(b"ERROR: No matching distribution found for torch\n")
        stdout.flush()
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("modelforge.setup.system_checks.shutil.which", lambda _program: None)
    with monkeypatch.context() as patched:
        patched.setattr(far.subprocess, "run", run)
        failed = far.install(str(tmp_path / "home"), code.key, "")
    assert "No matching distribution" in failed["error"]
    assert Path(failed["log"]).is_file()
    assert not list((tmp_path / "home" / "environments").glob("*/complete"))


def test_other_versions_of_an_environment_of_the_user_are_named(tmp_path, code):
    pins = tmp_path / "home" / "code" / code.key / "pins.txt"
    assert far.install(str(tmp_path / "home"), code.key, sys.executable)["differing"] == []
    lines = pins.read_text().splitlines()
    pins.write_text("\n".join("trl==0.1" if x.startswith("trl==") else x for x in lines))
    (differing,) = far.install(str(tmp_path / "home"), code.key, sys.executable)["differing"]
    assert differing.startswith("trl ")
    assert differing.endswith(" instead of 0.1")


def test_the_file_needs_nothing_that_is_installed():
    call = [sys.executable, "-I", "-S", "-", "find", "/none", "job"]
    source = Path(far.__file__).read_bytes()
    done = subprocess.run(call, input=source, capture_output=True, check=True)
    assert done.stdout == b'{"id": null}\n'


def test_a_process_is_told_from_another_one_with_its_number(tmp_path):
    child = subprocess.Popen(["sleep", "60"])
    who = far._describe(child.pid)
    assert far._is_alive(who)
    assert not far._is_alive(who | {"birth": "1"})
    assert not far._is_alive(who | {"boot": "another"})
    child.kill()
    child.wait()
    assert not far._is_alive(who)
