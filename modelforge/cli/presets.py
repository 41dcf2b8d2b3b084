"""`modelforge presets`: list the presets, and show what one would change."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, escape_control, print_json, print_table
from modelforge.cli.parsing import OpenForge, add_settings, parse_settings
from modelforge.cli.recipe import read_recipe

if TYPE_CHECKING:
    from modelforge.forge import Forge
    from modelforge.runs.presets import Preset
    from modelforge.services.presets.take_over import SettingChanges

MAX_CHARS = 60


def add(
    add_command: Callable[[str, Any, str], argparse.ArgumentParser], open_forge: OpenForge
) -> None:
    """Add the command `presets`."""

    def act(options: argparse.Namespace) -> int:
        forge = open_forge(options)
        return _list(options, forge) if options.name is None else _compare(options, forge)

    about = "List the presets: named settings, used as preset:NAME; or show what one would change."
    command = add_command("presets", act, about)
    command.add_argument("name", nargs="?", metavar="NAME", help="preset to compare")
    command.add_argument(
        "recipe",
        nargs="?",
        type=Path,
        help="recipe to compare it with; default: the values of the form on this machine",
    )
    add_settings(command)


def _list(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.config.resolve import flatten

    listed = forge.presets.all()
    if options.json:
        return print_json(listed)

    def text(preset: Preset) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in flatten(preset.settings).items())
        return preset.problem or preset.description or settings

    print_table([(preset.name, text(preset)) for preset in listed], ["name", "settings"])
    return DONE


def _compare(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.services.layers import FormInput
    from modelforge.services.presets.take_over import setting_changes, taken_over

    preset = forge.presets.read(options.name)
    recipe = read_recipe(options.recipe, forge.home)
    form = FormInput(values=parse_settings(options.set), recipe=recipe)
    then = taken_over(preset.settings, form)
    found = setting_changes(forge.layers.stack(form), forge.layers.stack(then))
    if options.json:
        return print_json({"preset": asdict(preset), **asdict(found)})
    _print(preset, found)
    return DONE


def _print(preset: Preset, found: SettingChanges) -> None:
    if preset.description:
        print(preset.description)
    rows = [(one.setting, _shown(one.now), _shown(one.then)) for one in found.changed]
    if rows:
        print_table(rows, ("Setting", "Now", "Then"))
    else:
        print("It changes nothing.")
    print(f"{found.same} other settings stay as they are.")
    print(escape_control(f'Use it as "preset:{preset.name}" in place of a recipe.'))


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)[:MAX_CHARS]
