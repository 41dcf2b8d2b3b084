"""Every setting has a test of its effect: the list in settings_effects.py against the code."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from modelforge.config.fields import field_specs
from tests.settings_effects import EFFECTS, OTHER_EFFECTS, SOURCE_EFFECTS

TESTS = Path(__file__).resolve().parent
NAMES = [(file, test) for file, tests in EFFECTS.items() for test in tests]
SOURCE_NAMES = [(file, test) for file, tests in SOURCE_EFFECTS.items() for test in tests]
OTHER_NAMES = [(file, test) for file, tests in OTHER_EFFECTS.items() for test in tests]


def words_of(file: str, name: str) -> set[str]:
    """Return the texts and argument names that a test uses, with its tables and helpers."""
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    names = {part.name for part in tree.body if isinstance(part, ast.FunctionDef)}
    assert name in names, f"{file} has no test {name}"
    used = [
        part
        for part in tree.body
        if not isinstance(part, ast.FunctionDef)
        or part.name == name
        or not part.name.startswith("test_")
    ]
    return {word for part in used for node in ast.walk(part) for word in _words(node)}


def _words(node: ast.AST) -> list[str]:
    if isinstance(node, ast.keyword) and node.arg:
        return [node.arg]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value, node.value.rpartition(".")[2]]
    return []


def test_every_setting_has_a_test_of_its_effect():
    settings = [spec.name for spec in field_specs()]
    listed = Counter(name for file, test in NAMES for name in EFFECTS[file][test])
    missing = [name for name in settings if name not in listed]
    assert not missing, (
        f"{', '.join(missing)}: no test shows what the setting changes. Write one (a line of "
        "GROUPS in tests/train/trainer/test_arguments.py is often enough) and add it to "
        "tests/settings_effects.py."
    )
    assert sorted(listed.elements()) == sorted(settings)


@pytest.mark.parametrize(("file", "test"), NAMES)
def test_a_test_of_an_effect_varies_its_settings(file, test):
    words = words_of(file, test)
    absent = [name for name in EFFECTS[file][test] if name.rpartition(".")[2] not in words]
    assert not absent, f"{test} in {file} does not set {', '.join(absent)}"


@pytest.mark.parametrize(("file", "test"), SOURCE_NAMES)
def test_a_test_of_a_source_varies_its_settings(file, test):
    words = words_of(file, test)
    named = [name.rpartition(".")[2] for name in SOURCE_EFFECTS[file][test]]
    # The path is the first argument of every source.
    absent = [name for name in named if name not in words and name != "path"]
    assert not absent, f"{test} in {file} does not set {', '.join(absent)}"


@pytest.mark.parametrize(("file", "test"), OTHER_NAMES)
def test_a_test_of_another_way_exists(file, test):
    assert words_of(file, test)


def test_a_test_that_does_not_vary_its_setting_is_found():
    file, test = NAMES[0]
    assert "no_such_setting" not in words_of(file, test)
    with pytest.raises(AssertionError, match="has no test"):
        words_of(file, f"{test}_of_another_name")
