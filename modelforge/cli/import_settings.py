"""`modelforge import`: settings of another system become a recipe, with a line for each option."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, escape_control, print_json, print_table
from modelforge.cli.parsing import write_file

if TYPE_CHECKING:
    from modelforge.config.importers.read import Recognized

VALUE_CHARS = 60


def add(add_command: Any) -> None:
    """Add the command."""
    about = "Read the settings of another system: LLaMA-Factory, Axolotl, TRL, Unsloth and others."
    command = add_command("import", _import, about)
    command.add_argument("source", metavar="FILE|COMMAND", help="file, or a command line in quotes")
    command.add_argument("--from", dest="system", help="its system, if it is not recognised")
    command.add_argument("--out", type=Path, metavar="RECIPE", help="where to write the recipe")


def _import(options: argparse.Namespace) -> int:
    from modelforge.config.importers.read import import_settings, is_command
    from modelforge.config.recipe import dump_recipe, read_recipe_file

    if is_command(options.source):
        found = import_settings(options.source, "the command line", options.system)
    else:
        path = Path(options.source)
        found = import_settings(read_recipe_file(path), path.name, options.system, path.parent)
    if options.out is not None:
        write_file(options.out, dump_recipe(found.imported.recipe), is_new=True)
    if options.json:
        return print_json(found.imported)
    _print(found)
    if options.out is None:
        print()
        print(dump_recipe(found.imported.recipe), end="")
    else:
        print(escape_control(f"{options.out}: written."))
    return DONE


def _print(found: Recognized) -> None:
    imported = found.imported
    signs = f" Recognised by {', '.join(found.signs)}." if found.signs else ""
    print(escape_control(f"{imported.title}.{signs}"))
    rows = [
        (
            str(line.line or ""),
            f"{line.name}: {line.value}"[:VALUE_CHARS],
            line.result,
            line.setting,
            line.why,
        )
        for line in imported.report
        if not line.is_default
    ]
    print_table(rows, ("Line", "In the file", "Result", "Setting", "Why"))
    defaults = sum(line.is_default for line in imported.report)
    if defaults:
        print(f"{defaults} defaults of {imported.title} are written out too.")
