"""Commands of launch.py."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_an_unknown_option_of_setup_is_rejected(fresh: Path) -> None:
    done = launch(fresh, "setup", "--fast")
    assert done.returncode == 2
    assert done.stderr.startswith("--fast: is not an option of setup.")
    assert not (fresh / ".venv").exists()


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
