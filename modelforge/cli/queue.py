"""`modelforge queue list|add|remove|move|hold|release|after|settings|run`: runs that wait."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelforge.config.resolve import Layer
    from modelforge.forge import Forge

DONE, FAILED = 0, 1
_ABOUT = "Let runs wait for their turn, and change their order."
_AFTER = "not before 22:30, +2h, or a date such as '2027-01-31 22:30'"

Layers = Callable[[argparse.Namespace], "list[Layer]"]


def add(
    commands: Any,
    shared: argparse.ArgumentParser,
    open_forge: Callable[..., Forge],
    layers: Layers,
) -> None:
    """Add the command `queue` to the parser. `layers` reads a recipe and what was set beside it."""
    queue = commands.add_parser("queue", help=_ABOUT, description=_ABOUT)
    inside = queue.add_subparsers(dest="what", required=True, metavar="WHAT")

    def new(name: str, act: Callable[[argparse.Namespace, Forge], int], about: str) -> Any:
        command = inside.add_parser(name, help=about, description=about, parents=[shared])
        command.set_defaults(act=lambda options: act(options, open_forge(options)))
        return command

    new("list", _list, "List the runs that wait, and say why none starts now.")
    _adding(new, layers)
    _changing(new)
    _of_the_queue(new)


def enqueue(options: argparse.Namespace, forge: Forge, layers: list[Layer]) -> int:
    """Let a recipe wait for its turn, and tell its place."""
    run_id = forge.queue.add(
        *layers, name=options.name, start_after=options.after, held=getattr(options, "held", False)
    )
    if options.json:
        print(json.dumps({"id": run_id, "folder": str(forge.runs.folder(run_id).path)}))
        return DONE
    place = next((run.position for run in forge.queue.view().runs if run.run == run_id), 0)
    print(f"{run_id} waits as number {place}.")
    print("It starts while the app is open, or with: modelforge queue run")
    return DONE


def _adding(new: Any, layers: Layers) -> None:
    adding = new(
        "add", lambda options, forge: enqueue(options, forge, layers(options)), "Queue a recipe."
    )
    adding.add_argument("recipe", type=Path, help="a recipe file (YAML or JSON)")
    adding.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    adding.add_argument("--name", help="how the run is listed")
    adding.add_argument("--after", metavar="TIME", help=_AFTER)
    adding.add_argument("--held", action="store_true", help="let it wait until it is released")


def _changing(new: Any) -> None:
    remove = new("remove", _remove, "Take a run out of the queue; it is deleted.")
    move = new("move", _move, "Put a run at another place.")
    after = new("after", _after, "Let a run wait until a time.")
    for command in (remove, move, after):
        command.add_argument("run", help="the run's id")
    move.add_argument("position", type=int, help="its new place, from 1")
    after.add_argument("time", nargs="?", help=f"{_AFTER}; left out: at once")


def _of_the_queue(new: Any) -> None:
    for name, act, about in (
        ("hold", _hold, "Hold a run, or without an id the whole queue."),
        ("release", _release, "Release a run, or without an id the whole queue."),
    ):
        new(name, act, about).add_argument("run", nargs="?", help="the run's id")
    settings = new("settings", _settings, "Say what the queue does after a failure.")
    settings.add_argument(
        "--after-failure", choices=["go-on", "stop"], required=True, help="go on, or stop"
    )
    new("run", _run, "Work the queue off in this terminal, until nothing is left to start.")


def _list(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.cli.output import print_queue

    view = forge.queue.view()
    if options.json:
        print(json.dumps(view.as_dict(), indent=2))
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
    from modelforge.cli.output import follow_queue

    views = follow_queue(forge, quiet=options.json)
    if options.json:
        print(json.dumps([view.as_dict() for view in views], indent=2))
    return DONE if all(view.state == "finished" for view in views) else FAILED
