"""Parts of the parser that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.errors import ConfigError, Problem

if TYPE_CHECKING:
    from modelforge.forge import Forge

Act = Callable[[argparse.Namespace, "Forge"], int]
OpenForge = Callable[[argparse.Namespace], "Forge"]
NewCommand = Callable[[str, Act, str], argparse.ArgumentParser]


def command_group(
    commands: Any, name: str, about: str, shared: argparse.ArgumentParser, open_forge: OpenForge
) -> NewCommand:
    """Add a command that has subcommands, and return the function that adds one of them."""
    group = commands.add_parser(name, help=about, description=about)
    inside = group.add_subparsers(dest="what", required=True, metavar="WHAT")

    def new(name: str, act: Act, about: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = inside.add_parser(
            name, help=about, description=about, parents=[shared]
        )
        command.set_defaults(act=lambda options: act(options, open_forge(options)))
        return command

    return new


def add_recipe(command: argparse.ArgumentParser) -> None:
    """Add the arguments that name a recipe and change its settings."""
    command.add_argument("recipe", type=Path, help="recipe file (YAML or JSON)")
    add_settings(command)


def add_settings(command: argparse.ArgumentParser) -> None:
    """Add the option `--set`."""
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")


def parse_assignments(pairs: list[str], flag: str) -> dict[str, str]:
    """Return the values of KEY=VALUE arguments. Raises ConfigError."""
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(Problem(flag, f"{pair} has no =.", f"Write {flag} key=value."))
        values[key.strip()] = value
    return values
