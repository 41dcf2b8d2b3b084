"""`modelforge queue list|add|remove|move|hold|release|after|settings|run`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modelforge.cli import evaluate
from modelforge.cli.output import DONE, escape_control, print_json, print_queue
from modelforge.cli.parsing import (
    NewCommand,
    OpenForge,
    add_recipe,
    command_group,
    require_agreement,
)
from modelforge.cli.targets.commands import ON

if TYPE_CHECKING:
    from modelforge.config.resolve import Layer
    from modelforge.forge import Forge

_AFTER = "not before 22:30, +2h, or a date such as '2027-01-31 22:30'"


def add(
    commands: Any,
    shared: argparse.ArgumentParser,
    open_forge: OpenForge,
    layers: Callable[[argparse.Namespace], list[Layer]],
) -> None:
    """Add the command `queue`. `layers` reads the recipe and the --set options."""
    about = "Queue runs and change their order."
    new = command_group(commands, "queue", about, shared, open_forge)
    new("list", _list, "List the queued runs, and why none starts now.")
    added = new(
        "add", lambda options, forge: enqueue(options, forge, layers(options)), "Queue a recipe."
    )
    add_recipe(added)
    added.add_argument("--name", help="name of the run")
    added.add_argument("--after", metavar="TIME", help=_AFTER)
    added.add_argument("--on", metavar="TARGET", help=ON)
    added.add_argument("--held", action="store_true", help="hold it until it is released")
    _add_changes(new)
    new("run", _run, "Run the queue in this terminal until no run is left to start.")


def enqueue(options: argparse.Namespace, forge: Forge, layers: list[Layer]) -> int:
    """Add a recipe to the queue and print its position."""
    run_id = forge.queue.add(
        *layers,
        name=options.name,
        start_after=options.after,
        held=getattr(options, "held", False),
        on=getattr(options, "on", None),
    )
    if options.json:
        print(json.dumps({"id": run_id, "folder": str(forge.runs.folder(run_id).path)}))
        return DONE
    position = next((run.position for run in forge.queue.view().runs if run.run == run_id), 0)
    print(f"{run_id} is number {position} in the queue.")
    print("It starts while the app is running, or with: modelforge queue run")
    return DONE


def _add_changes(new: NewCommand) -> None:
    remove = new("remove", _remove, "Remove a run from the queue and delete it.")
    remove.add_argument("--yes", action="store_true", help="delete it without asking")
    move = new("move", _change, "Move a run to another position.")
    after = new("after", _change, "Set the earliest start time of a run.")
    for command in (remove, move, after):
        command.add_argument("run", help="id of the run")
    move.add_argument("position", type=int, help="new position, from 1")
    after.add_argument("time", nargs="?", help=f"{_AFTER}; default: as soon as possible")
    hold = new("hold", _change, "Hold a run, or without an id the whole queue.")
    release = new("release", _change, "Release a run, or without an id the whole queue.")
    for command in (hold, release):
        command.add_argument("run", nargs="?", help="id of the run")
    settings = new("settings", _change, "Set what the queue does after a failure.")
    settings.add_argument(
        "--after-failure", choices=["go-on", "stop"], required=True, help="continue or stop"
    )


def _list(options: argparse.Namespace, forge: Forge) -> int:
    view = forge.queue.view()
    return print_json(view) if options.json else print_queue(view)


def _remove(options: argparse.Namespace, forge: Forge) -> int:
    name = escape_control(forge.runs.view(options.run).name)
    require_agreement(options, options.run, f"Delete {name} ({options.run}) from the queue?")
    forge.queue.remove(options.run)
    return _list(options, forge)


def _change(options: argparse.Namespace, forge: Forge) -> int:
    """Change the queue, then list it."""
    queue = forge.queue
    match options.what:
        case "move":
            queue.move(options.run, options.position)
        case "after":
            queue.start_after(options.run, options.time)
        case "hold":
            queue.hold(options.run)
        case "release":
            queue.release(options.run)
        case "settings":
            queue.settings(go_on_after_failure=options.after_failure == "go-on")
    return _list(options, forge)


def _run(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.cli.follow import follow_queue

    followed = follow_queue(forge, quiet=options.json)
    for run in followed:
        evaluate.follow_end(forge, run.view.id, quiet=options.json)
    if options.json:
        print_json([run.view for run in followed])
    return max((run.exit_code for run in followed), default=DONE)
