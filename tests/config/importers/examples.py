"""Example files of the systems, and what they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelforge.config.importers.read import import_settings
from modelforge.config.importers.report import Imported, ReportLine
from modelforge.config.resolve import Layer, Resolved, flatten, resolve
from modelforge.errors import ConfigError, Problem

FILES = Path(__file__).parent / "files"


def example_files(system: str) -> list[Path]:
    return sorted((FILES / system).iterdir())


def read_example(system: str, name: str) -> Imported:
    """Import an example without naming its system."""
    path = next(path for path in example_files(system) if path.stem == name)
    found = import_settings(path.read_text("utf-8"), path.name)
    assert found.imported.system == system
    return found.imported


def settings_of(text: str, system: str | None = None) -> dict[str, Any]:
    """Return what a text becomes, by dotted name."""
    return flatten(import_settings(text, "file.yaml", system).imported.recipe)


def line_of(imported: Imported, name: str) -> ReportLine:
    """Return the line of the report about an option, not that of a default."""
    return next(line for line in imported.report if line.name == name and not line.is_default)


def problems_of(text: str, system: str | None = None) -> list[Problem]:
    """Return every problem of a text; empty if it can be imported."""
    try:
        import_settings(text, "file.yaml", system)
    except ConfigError as error:
        return error.problems
    return []


def resolved(imported: Imported) -> Resolved:
    """Resolve a recipe as it is; files without a model or data get names of one."""
    given = {"model_name": "starter", "dataset": "sample:captain", **imported.recipe}
    if imported.recipe.get("pretraining", {}).get("enabled"):
        del given["model_name"]
    return resolve(Layer("recipe", given | {"compute_specs": "low_end"}))
