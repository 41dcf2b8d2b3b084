"""`modelforge queue list|add|remove|move|hold|release|after|settings|run`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, FAILED, print_json

if TYPE_CHECKING:
    from modelforge.config.resolve import Layer
    from modelforge.forge import Forge

_ABOUT = "Queue runs and change their order."
_AFTER = "not before 22:30, +2h, or a date such as '2027-01-31 22:30'"

Layers = Callable[[argparse.Namespace], "list[Layer]"]


def add(
    commands: Any,
    shared: argparse.ArgumentParser,
    open_forge: Callable[..., Forge],
    layers: Layers,
) -> None:
    """Add the command `queue`. `layers` reads the recipe and the --set options."""
    queue = commands.add_parser("queue", help=_ABOUT, description=_ABOUT)
    inside = queue.add_subparsers(dest="what", required=True, metavar="WHAT")

    def new(name: str, act: Callable[[argparse.Namespace, Forge], int], about: str) -> Any:
        command = inside.add_parser(name, help=about, description=about, parents=[shared])
        command.set_defaults(act=lambda options: act(options, open_forge(options)))
        return command

    new("list", _list, "List the queued runs, and why none starts now.")
    _add_add(new, layers)
    _add_entry_commands(new)
    _add_queue_commands(new)


def enqueue(options: argparse.Namespace, forge: Forge, layers: list[Layer]) -> int:
    """Add a recipe to the queue and print its position."""
    run_id = forge.queue.add(
        *layers, name=options.name, start_after=options.after, held=getattr(options, "held", False)
    )
    if options.json:
        print(json.dumps({"id": run_id, "folder": str(forge.runs.folder(run_id).path)}))
        return DONE
    position = next((run.position for run in forge.queue.view().runs if run.run == run_id), 0)
    print(f"{run_id} is number {position} in the queue.")
    print("It starts while the app is running, or with: modelforge queue run")
    return DONE


def _add_add(new: Any, layers: Layers) -> None:
    command = new(
        "add", lambda options, forge: enqueue(options, forge, layers(options)), "Queue a recipe."
    )
    command.add_argument("recipe", type=Path, help="recipe file (YAML or JSON)")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    command.add_argument("--name", help="name of the run")
    command.add_argument("--after", metavar="TIME", help=_AFTER)
    command.add_argument("--held", action="store_true", help="hold it until it is released")


def _add_entry_commands(new: Any) -> None:
    remove = new("remove", _remove, "Remove a run from the queue and delete it.")
    move = new("move", _move, "Move a run to another position.")
    after = new("after", _after, "Set the earliest start time of a run.")
    for command in (remove, move, after):
        command.add_argument("run", help="id of the run")
    move.add_argument("position", type=int, help="new position, from 1")
    after.add_argument("time", nargs="?", help=f"{_AFTER}; default: as soon as possible")


def _add_queue_commands(new: Any) -> None:
    for name, act, about in (
        ("hold", _hold, "Hold a run, or without an id the whole queue."),
        ("release", _release, "Release a run, or without an id the whole queue."),
    ):
        new(name, act, about).add_argument("run", nargs="?", help="id of the run")
    settings = new("settings", _settings, "Set what the queue does after a failure.")
    settings.add_argument(
        "--after-failure", choices=["go-on", "stop"], required=True, help="continue or stop"
    )
    new("run", _run, "Run the queue in this terminal until no run is left to start.")


def _list(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.cli.output import print_queue

    view = forge.queue.view()
    if options.json:
        print_json(view)
    else:
        print_queue(view)
    return DONE


def _remove(options: argparse.Namespace, forge: Forge) -> int:
    forge.queue.remove(options.run)
    return _list(options, forge)


def _move(options: argparse.Namespace, forge: Forge) -> int:
    forge.queue.move(options.run, options.position)
    return _list(options, forge)


def _after(options: argparse.Namespace, forge: Forge) -> int:
    forge.queue.start_after(options.run, options.time)
    return _list(options, forge)


def _hold(options: argparse.Namespace, forge: Forge) -> int:
    forge.queue.hold(options.run)
    return _list(options, forge)


def _release(options: argparse.Namespace, forge: Forge) -> int:
    forge.queue.release(options.run)
    return _list(options, forge)


def _settings(options: argparse.Namespace, forge: Forge) -> int:
    forge.queue.settings(go_on_after_failure=options.after_failure == "go-on")
    return _list(options, forge)


def _run(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.cli.follow import follow_queue

    views = follow_queue(forge, quiet=options.json)
    if options.json:
        print_json(views)
    return DONE if all(view.state == "finished" for view in views) else FAILED
