"""A program that stands in for Surogate, where a worker finds it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modelforge.config.engines import VARIABLE

STAND_IN = Path(__file__).with_name("surogate_stand_in.py")


@pytest.fixture
def surogate(tmp_path: Path, monkeypatch) -> Callable[[str], Path]:
    """Install the program, which then behaves as the given word says."""

    def install(play: str = "") -> Path:
        program = tmp_path / "surogate"
        code = STAND_IN.read_text("utf-8")
        program.write_text(f"#!{sys.executable}\n{code}", "utf-8")
        program.chmod(0o755)
        monkeypatch.setenv(VARIABLE, str(program))
        monkeypatch.setenv("STAND_IN", play)
        return program

    return install
