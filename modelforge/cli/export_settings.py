"""`modelforge export-settings`: a recipe or a run as a file of another system, or as a script."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, escape_control, print_json, print_table
from modelforge.cli.parsing import OpenForge, add_settings
from modelforge.cli.recipe import PRESET

if TYPE_CHECKING:
    from modelforge.config.exporters.report import Exported
    from modelforge.config.resolve import Layer
    from modelforge.forge import Forge
    from modelforge.services.exports.settings import ExportSource

VALUE_CHARS = 40
SYSTEMS = ("trl", "surogate", "axolotl", "llama-factory", "nanochat", "stack-wise", "script")


def add(
    add_command: Callable[[str, Any, str], argparse.ArgumentParser],
    open_forge: OpenForge,
    read_layers: Callable[[argparse.Namespace], Sequence[Layer]],
) -> None:
    """Add the command `export-settings`."""

    def act(options: argparse.Namespace) -> int:
        return _export(options, open_forge(options), read_layers)

    about = "Write a recipe or a run for another system, or as a script for TRL and PEFT alone."
    command = add_command("export-settings", act, about)
    command.add_argument("recipe", type=Path, metavar="RECIPE|RUN", help="recipe, or id of a run")
    command.add_argument("--to", required=True, choices=SYSTEMS, help=", ".join(SYSTEMS))
    command.add_argument("--out", type=Path, metavar="FILE", help="where to write it")
    command.add_argument(
        "--data", action="store_true", help="write the rows beside it too, as JSON Lines"
    )
    add_settings(command)


def _export(
    options: argparse.Namespace,
    forge: Forge,
    read_layers: Callable[[argparse.Namespace], Sequence[Layer]],
) -> int:
    source = _source(options, forge, read_layers)
    service = forge.settings_exports
    files: list[Path] = []
    if options.out is None:
        exported = service.export(source, options.to)
    else:
        exported, files = service.write(source, options.to, options.out, with_data=options.data)
    if options.json:
        return print_json({**exported.as_dict(), "written": [str(path) for path in files]})
    if not files:
        print(exported.text, end="")
    _print_report(exported, to_stderr=not files)
    for path in files:
        print(escape_control(f"{path}: written."))
    if files:
        command = exported.command.replace("FILE", options.out.name)
        print(escape_control(f"In the folder of the file: {command}"))
    elif exported.data:
        print("With --out the rows are written beside the script.", file=sys.stderr)
    return DONE


def _source(
    options: argparse.Namespace,
    forge: Forge,
    read_layers: Callable[[argparse.Namespace], Sequence[Layer]],
) -> ExportSource:
    name = str(options.recipe)
    is_run = not name.startswith(PRESET) and not options.recipe.suffix and not options.set
    if is_run and not options.recipe.exists():
        return forge.settings_exports.of_run(name)
    return forge.settings_exports.of_settings(*read_layers(options), system=options.to)


def _print_report(exported: Exported, *, to_stderr: bool) -> None:
    rows = [(line.setting, f"{line.value}"[:VALUE_CHARS], line.why) for line in exported.left_out]
    if to_stderr:
        for row in rows:
            print(escape_control(f"Left out: {row[0]}: {row[1]}. {row[2]}"), file=sys.stderr)
        return
    print(f"{exported.title}: {_count(len(rows))}")
    if rows:
        print_table(rows, ("Left out", "Value", "Why"))


def _count(number: int) -> str:
    if not number:
        return "every setting that matters is written."
    return f"{number} setting{'s' if number > 1 else ''} cannot be written."
