"""Where the program of an engine is looked for."""

from __future__ import annotations

import pytest

from modelforge.config.engines import MODULE, PROGRAM, VARIABLE, find_surogate, read_engine_options


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


def test_options_of_the_engine_are_read_with_their_types():
    text = "offload_master: true\n\n fp8_amax_history: 16\ngradient_dtype: e5m2"
    assert read_engine_options(text) == (
        {"offload_master": True, "fp8_amax_history": 16, "gradient_dtype": "e5m2"},
        [],
    )
    assert read_engine_options("router_z_loss_coef: 0.01") == ({"router_z_loss_coef": 0.01}, [])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("offload_master", "NAME: VALUE"),
        ("learning_rate: 1", "no option"),
        ("output_dir: /tmp", "no option"),
        ("offload_master: 1", "true or false"),
        ("fp8_amax_history: 0", "the least is 1"),
        ("fp8_amax_history: true", "whole number"),
        ("gradient_dtype: fp64", "fp32"),
        ("use_zero_copy: true\nuse_zero_copy: true", "twice"),
        ("use_zero_copy: [", "true or false"),
    ],
)
def test_other_options_are_refused_with_the_reason(line, words):
    (wrong,) = read_engine_options(line)[1]
    assert words in wrong
