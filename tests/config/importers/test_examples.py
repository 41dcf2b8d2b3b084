"""Example files of every system: each is recognised, imports, and its recipe resolves."""

import pytest

from modelforge.config.importers.read import SYSTEMS, import_settings
from modelforge.config.recipe import dump_recipe, load_recipe
from tests.config.importers.examples import FILES, example_files, resolved

EXAMPLES = [(system.name, path) for system in SYSTEMS for path in example_files(system.name)]
FEWER = {"unsloth": 5, "h2o": 5}
IDS = [f"{system}/{path.stem}" for system, path in EXAMPLES]


def test_every_system_has_examples():
    assert {path.name for path in FILES.iterdir()} == {system.name for system in SYSTEMS}
    for system in SYSTEMS:
        assert len(example_files(system.name)) >= FEWER.get(system.name, 12)


@pytest.mark.parametrize(("system", "path"), EXAMPLES, ids=IDS)
def test_an_example_is_recognised_and_its_recipe_resolves(system, path, tmp_path):
    imported = import_settings(path.read_text("utf-8"), path.name).imported
    assert imported.system == system
    resolved(imported)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(imported.recipe), "utf-8")
    assert load_recipe(recipe) == imported.recipe


@pytest.mark.parametrize(("system", "path"), EXAMPLES, ids=IDS)
def test_every_option_of_an_example_has_a_line(system, path):
    text = path.read_text("utf-8")
    imported = import_settings(text, path.name, system).imported
    given = [line for line in imported.report if not line.is_default]
    top = {line.name.partition("[")[0].replace("-", "_") for line in given}
    for row in text.splitlines():
        name = row.strip().partition(":")[0]
        if (
            path.suffix == ".yaml"
            and row[:1] not in (" ", "-", "#")
            and row.partition(":")[2].strip()
        ):
            assert name in top, name
    for line in given:
        assert (line.line is None) == (path.suffix == ".txt"), line
        if line.result in ("taken", "renamed"):
            assert line.setting or line.why, line
        else:
            assert line.why.endswith((".", "?")), line
        assert "not a known option" not in line.why or line.name == "test_value", line


def test_a_system_that_is_named_is_the_one_that_is_recognised():
    for system, path in EXAMPLES:
        text = path.read_text("utf-8")
        assert import_settings(text, "x", system).imported == import_settings(text, "x").imported


def test_the_tables_have_names_of_options():
    for system in SYSTEMS:
        assert not [name for name in system.options if len(name.rpartition(".")[2]) < 2]
