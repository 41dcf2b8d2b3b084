"""Commands of launch.py."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelforge.setup import commands
from modelforge.setup.commands import PASSED_OPTIONS
from modelforge.setup.stages import exclusive_setup

ROOT = Path(__file__).resolve().parents[2]


def launch(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "launch.py", *arguments],
        cwd=root,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkout before set-up."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("launch.py", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, root)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "modelforge" / "setup", root / "modelforge" / "setup", ignore=ignore)
    for name in ("__init__.py", "units.py"):
        shutil.copy2(ROOT / "modelforge" / name, root / "modelforge")
    return root


def test_help_names_every_command(fresh: Path) -> None:
    done = launch(fresh, "--help")
    assert done.returncode == 0
    for command in ("demo", "setup", "doctor", "test", "--no-browser", "--port", "--home"):
        assert command in done.stdout


def test_doctor_works_before_set_up(fresh: Path) -> None:
    done = launch(fresh, "doctor", MODELFORGE_HOME=str(fresh / "home"))
    assert "Python" in done.stdout
    assert "python launch.py setup" in done.stdout
    assert not (fresh / ".venv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("setup --fast", "--fast: is not an option of setup. Known: --home, --torch, --with."),
        ("setup --wiht x", "--wiht: is not an option of setup. Did you mean --with?\n\n"),
        ("setup --home ~nosuchuser/x", "--home: ~nosuchuser/x cannot be used: Could not determine"),
        ("setup doctor", "doctor: is not an option of setup."),
        ("setup --with unslot", "unslot: is not an extra. Did you mean unsloth?"),
        ("setpu", "setpu: is not a command of launch.py. Did you mean setup?"),
        ("--prot 80", "--prot: is not an option of launch.py. Did you mean --port?"),
        ("--port x", "launch.py: argument --port: invalid int value"),
        ("demo --smaple x", "--smaple: is not an option of demo. Did you mean --sample?"),
        ("doctor --jsn", "--jsn: is not an option of doctor. Did you mean --json?"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_set_up(
    fresh: Path, arguments: str, message: str
) -> None:
    done = launch(fresh, *arguments.split())
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert not (fresh / ".venv").exists()
    assert not (fresh / ".setup").exists()


def test_unsloth_is_refused_without_a_gpu_and_nothing_is_changed(fresh: Path) -> None:
    files = sorted(fresh.rglob("*"))
    done = launch(fresh, "setup", "--with", "unsloth", PATH=str(fresh))
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "The extra unsloth was not installed: Unsloth needs an NVIDIA GPU, and none was found. "
        "Use the provider huggingface."
    )
    assert [file for file in sorted(fresh.rglob("*")) if "__pycache__" not in str(file)] == files


def test_the_options_that_launch_py_passes_on_exist() -> None:
    # Read, because the modules import what set-up installs.
    for command, module in (("", "ui/__main__.py"), ("demo", "modelforge/cli/main.py")):
        text = (ROOT / module).read_text(encoding="utf-8")
        assert all(f'"{name}"' in text for name in PASSED_OPTIONS[command])


@pytest.mark.parametrize(("option", "runs_slow"), [([], False), (["--slow"], True)])
def test_slow_tests_run_on_demand_only(
    monkeypatch: pytest.MonkeyPatch, option: list[str], runs_slow: bool
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(commands, "_prepare", lambda _options: False)
    monkeypatch.setattr(commands, "find_browser", lambda: "a browser")
    monkeypatch.setattr(commands, "_pytest", lambda _o, arguments, _e: calls.append(arguments) or 0)
    assert commands.main(["test", *option]) == 0
    assert len(calls) == 3
    assert all((arguments[:2] != ["-m", "not slow"]) is runs_slow for arguments in calls)


def test_a_failed_set_up_prints_one_sentence(fresh: Path) -> None:
    with exclusive_setup(fresh / ".setup" / "lock"):
        done = launch(fresh, "setup")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "Another set-up is running in this folder; wait for it, then try again."
    )


def test_an_old_python_prints_the_required_versions() -> None:
    text = (ROOT / "launch.py").read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 7))
    before_version_check = text.partition("if not (3, 11)")[0]
    assert "modelforge" not in before_version_check
    assert "3.11 to 3.13" in text
