"""Read a recipe at the terminal: its relative paths may be relative to its own folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from modelforge.cli.output import escape_control
from modelforge.paths import Home

# Settings that may be a path, beside the sources.
PATHS = (
    "dataset", "model_name", "model.chat_template", "adapter.start_from", "trainer.reward_model",
)  # fmt: skip
# Values that are never a path.
NAMES = ("starter",)
PRESET = "preset:"
SOURCES = ("sources", "validation_sources")


def read_recipe(path: Path | None, home: Home) -> dict[str, Any]:
    """Return the settings of a recipe, with the paths that exist only beside it made absolute.

    `preset:NAME` names a preset, and None no recipe. Which paths are taken from beside the recipe
    is printed to stderr. Raises what `load_recipe` raises.
    """
    from modelforge.config.recipe import load_recipe

    if path is None:
        return {}
    if str(path).startswith(PRESET):
        from modelforge.runs.presets import PresetService

        return PresetService(home.presets).read(str(path).removeprefix(PRESET)).settings
    recipe = deepcopy(load_recipe(path))
    for values, name in _paths(recipe):
        beside = _beside(path, values.get(name))
        if beside is not None:
            text = f"{name}: {values[name]} is taken from the folder of the recipe: {beside}"
            print(escape_control(text), file=sys.stderr)
            values[name] = str(beside)
    return recipe


def _paths(recipe: MutableMapping[str, Any]) -> Iterator[tuple[MutableMapping[str, Any], str]]:
    """Yield each group of settings that may hold a path, with the name of the setting."""
    for full in PATHS:
        yield recipe, full
        group, _, name = full.rpartition(".")
        inner = recipe.get(group)
        if isinstance(inner, MutableMapping):
            yield inner, name
    data = recipe.get("data")
    for name in SOURCES:
        listed = data.get(name) if isinstance(data, Mapping) else recipe.get(f"data.{name}")
        for source in listed if isinstance(listed, list) else ():
            if isinstance(source, MutableMapping):
                yield source, "path"


def _beside(recipe: Path, value: Any) -> Path | None:
    """Return the file or folder of this name beside a recipe, unless the name is found as it is."""
    if not isinstance(value, str) or not value.strip() or value in NAMES:
        return None
    try:
        given, beside = Path(value).expanduser(), recipe.resolve().parent / value
        if given.is_absolute() or given.exists() or not beside.exists():
            return None
    except (OSError, ValueError, RuntimeError):
        return None
    return beside.resolve()
