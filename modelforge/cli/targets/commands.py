"""`modelforge targets add|list|check|remove`: the places that train runs elsewhere."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, FAILED, escape_control, print_json, print_table
from modelforge.cli.parsing import OpenForge, command_group
from modelforge.errors import ConfigError, Problem

if TYPE_CHECKING:
    from modelforge.forge import Forge

ON = "where to train: a target of `modelforge targets list`, or here"


def add(commands: Any, shared: argparse.ArgumentParser, open_forge: OpenForge) -> None:
    """Add the command `targets`."""
    about = "Add, list, check or remove places that train runs: other computers and clusters."
    new = command_group(commands, "targets", about, shared, open_forge)
    new("list", _list, "List the targets.")
    added = new("add", _add, "Add a target and check it.")
    check = new("check", _check, "Reach a target, prepare its environment and read its hardware.")
    remove = new("remove", _remove, "Remove a target; runs that were there stay in the list.")
    for command in (added, check, remove):
        command.add_argument("name", help="name of the target")
    added.add_argument("place", help="ssh:HOST[:PORT][/FOLDER] or slurm:PARTITION[/FOLDER]")
    added.add_argument("--slots", type=int, default=1, metavar="N", help="runs at a time (1)")
    option = "an option of its kind, such as python=PATH or gres=gpu:1; may be repeated"
    added.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help=option)
    added.add_argument("--no-check", action="store_true", help="only store it")


def _list(options: argparse.Namespace, forge: Forge) -> int:
    known = forge.targets.list()
    if options.json:
        return print_json(known)
    if not known:
        print("There are no targets. Add one: modelforge targets add NAME ssh:HOST")
        return DONE
    rows = [
        (
            target.name,
            f"{target.kind}:{target.address}",
            f"{target.slots}",
            " ".join(f"{name}={value}" for name, value in target.options.items()),
            target.hardware or f"unknown; run: modelforge targets check {target.name}",
        )
        for target in known
    ]
    print_table(rows, ("Target", "Place", "Slots", "Options", "Hardware"))
    return DONE


def _add(options: argparse.Namespace, forge: Forge) -> int:
    values = {}
    for text in options.option:
        name, sign, value = text.partition("=")
        if not sign:
            what = f"{text[:80]!r} has no value."
            raise ConfigError(Problem("--option", what, "Write NAME=VALUE."))
        values[name] = value
    forge.targets.add(options.name, options.place, slots=options.slots, options=values)
    return _list(options, forge) if options.no_check else _check(options, forge)


def _check(options: argparse.Namespace, forge: Forge) -> int:
    def report(text: str) -> None:
        if not options.json:
            print(escape_control(f"{text} …"), flush=True)

    found = forge.targets.check(options.name, report)
    if options.json:
        print_json(found)
    else:
        for problem in found.problems:
            print(escape_control(str(problem)))
        if found.usable:
            about = found.hardware or "its hardware is not known yet"
            print(escape_control(f"{found.name} is ready: {about}."))
    return DONE if found.usable else FAILED


def _remove(options: argparse.Namespace, forge: Forge) -> int:
    forge.targets.remove(options.name)
    return _list(options, forge)
