"""Where the program of an engine is looked for."""

from __future__ import annotations

import pytest

from modelforge.config.engines import MODULE, PROGRAM, VARIABLE, find_surogate


@pytest.fixture
def program(tmp_path):
    """An executable of that name in a folder bin, as environments have it."""
    path = tmp_path / "bin" / PROGRAM
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n", "utf-8")
    path.chmod(0o755)
    return path


def test_the_named_program_comes_before_that_of_the_path(program, tmp_path):
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\n", "utf-8")
    other.chmod(0o755)
    on_path = {"PATH": str(program.parent)}
    assert find_surogate(on_path) == (str(program),)
    assert find_surogate({**on_path, VARIABLE: str(other)}) == (str(other),)


def test_the_folder_of_an_environment_and_its_python_are_taken(program, tmp_path):
    assert find_surogate({VARIABLE: str(tmp_path)}) == (str(program),)
    python = program.with_name("python3.12")
    program.rename(python)
    assert find_surogate({VARIABLE: str(python)}) == (str(python), "-m", MODULE)


def test_nothing_is_found_where_nothing_can_be_started(program, tmp_path):
    assert find_surogate({"PATH": str(tmp_path)}) == ()
    assert find_surogate({VARIABLE: str(tmp_path / "gone"), "PATH": str(program.parent)}) == ()
    program.chmod(0o644)
    assert find_surogate({VARIABLE: str(program)}) == ()
