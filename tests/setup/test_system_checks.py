"""Checks that need no installed package."""

from __future__ import annotations

import platform
import stat
import sys
import sysconfig
from pathlib import Path

import pytest

from modelforge.paths import find_home
from modelforge.setup.browser import find_browser
from modelforge.setup.system_checks import (
    CheckResult,
    check_disk,
    checks_before_setup,
    default_home,
    find_build_tools,
    missing_build_tools,
    query_nvidia_gpu,
)

needs_shell = pytest.mark.skipif(sys.platform == "win32", reason="uses shell scripts")


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize("variable", ["MODELFORGE_HOME", "XDG_DATA_HOME", ""])
def test_the_default_home_equals_that_of_the_app(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELFORGE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert default_home() == find_home().root


@needs_shell
def test_every_gpu_is_queried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "nvidia-smi", "echo '580.88, 6.1'; echo '580.88, 8.9'")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert query_nvidia_gpu() == {
        "driver_version": "580.88",
        "capabilities": ((6, 1), (8, 9)),
    }


@needs_shell
@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'", "echo"])
def test_a_failing_nvidia_smi_gives_no_driver(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "nvidia-smi", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert query_nvidia_gpu() == {"driver_version": None, "capabilities": ()}


@needs_shell
def test_a_browser_that_does_not_start_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "chromium", "exit 127")
    works = program(tmp_path, "google-chrome", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MODELFORGE_BROWSER", raising=False)
    assert find_browser() == str(works)
    named = program(tmp_path, "mine", "exit 0")
    monkeypatch.setenv("MODELFORGE_BROWSER", str(named))
    assert find_browser() == str(named)


def test_the_disk_of_the_future_home_is_checked(tmp_path: Path) -> None:
    row = check_disk(tmp_path / "not" / "yet" / "there")
    assert row.name == "Disk"
    assert "GiB free" in row.what


def test_the_checks_before_set_up_name_the_command(tmp_path: Path) -> None:
    rows = checks_before_setup(tmp_path)
    assert [row.name for row in rows] == ["Python", "Set-up", "GPU", "Disk", "Browser"]
    assert "launch.py setup" in rows[1].remedy


def test_a_check_result_is_one_line() -> None:
    row = CheckResult("Disk", "bad", "0.1 GiB free.", "Free some.")
    assert str(row).split() == ["BAD", "Disk", "0.1", "GiB", "free.", "Free", "some."]


def test_a_compiler_and_the_headers_of_python_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert find_build_tools() == ()
    text = missing_build_tools(find_build_tools())
    assert "needs a C compiler and the header files of Python (Python.h)." in text
    assert "gcc python3-dev" in text
    (tmp_path / "Python.h").touch()
    assert "needs a C compiler." in missing_build_tools(find_build_tools())
    monkeypatch.setenv("CC", "/opt/cc")
    assert missing_build_tools(find_build_tools()) == ""
    monkeypatch.setattr(platform, "system", lambda: "Windows")  # Triton for Windows brings both
    monkeypatch.delenv("CC")
    assert missing_build_tools(find_build_tools()) == ""
