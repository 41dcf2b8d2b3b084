"""`modelforge runs list|show|stop|resume|continue|…`: what happened, and what to do next."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import plain
from modelforge.errors import ConfigError, Problem

if TYPE_CHECKING:
    from modelforge.forge import Forge

DONE = 0
_ABOUT = "List, show, name, compare, stop, go on with, retry, bundle or delete runs."


def add(commands: Any, shared: argparse.ArgumentParser, open_forge: Callable[..., Forge]) -> None:
    """Add the command `runs` to the parser."""
    runs = commands.add_parser("runs", help=_ABOUT, description=_ABOUT)
    inside = runs.add_subparsers(dest="what", required=True, metavar="WHAT")

    def new(name: str, act: Callable[[argparse.Namespace, Forge], int], about: str) -> Any:
        command = inside.add_parser(name, help=about, description=about, parents=[shared])
        command.set_defaults(act=lambda options: act(options, open_forge(options)))
        return command

    _listing(new)
    _of_one_run(new)
    _noting(new)
    _comparing(new)


def _listing(new: Any) -> None:
    listed = new("list", _list, "List the runs, newest first.")
    listed.add_argument("--query", default="", help="words that all stand in the run's line")
    listed.add_argument("--state", action="append", default=[], help="only runs in this state")
    listed.add_argument("--tag", default="", help="only runs with this tag")
    listed.add_argument("--sort", default="age", help="age, name, loss, duration or size")
    listed.add_argument("--limit", type=int, help="how many at most")


def _noting(new: Any) -> None:
    note = new("note", _note, "Write a note to a run, or give it another name.")
    note.add_argument("run", help="the run's id")
    note.add_argument("text", nargs="?", help="the note; an empty one removes it")
    note.add_argument("--name", help="the name it is listed under; an empty one gives it its first")
    tag = new("tag", _tag, "Tag a run.")
    tag.add_argument("run", help="the run's id")
    tag.add_argument("tags", nargs="*", help="tags to add")
    tag.add_argument("--remove", action="append", default=[], help="a tag to take away")


def _comparing(new: Any) -> None:
    compare = new("compare", _compare, "Put two runs or more side by side.")
    compare.add_argument("run", nargs="+", help="ids of runs")
    compare.add_argument("--csv", type=Path, help="write every number of them to this file")
    compare.add_argument("--html", type=Path, help="write the comparison as one page to this file")


def _of_one_run(new: Any) -> None:
    show = new("show", _show, "Show how a run stands.")
    stop = new("stop", _stop, "Ask a run to stop; what it has learned is kept.")
    stop.add_argument("--discard", action="store_true", help="keep nothing of what it learned")
    resume = new("resume", _resume, "Go on with a run that did not finish.")
    longer = new("continue", _continue, "Start a new run that learns on from the end of this one.")
    much = longer.add_mutually_exclusive_group()
    much.add_argument("--epochs", type=int, metavar="N", help="how many epochs more")
    much.add_argument("--steps", type=int, metavar="N", help="how many updates more")
    delete = new("delete", _delete, "Delete a run that is over, with everything it made.")
    retry = new("retry", _retry, "Start a failed run again with what helps against its cause.")
    bundle = new(
        "bundle", _bundle, "Write a zip file for those who help; nothing private is in it."
    )
    for command in (show, stop, resume, longer, delete, retry, bundle):
        command.add_argument("run", help="the run's id")
    bundle.add_argument("file", nargs="?", type=Path, help="where to write it")


def _list(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.cli.output import print_runs
    from modelforge.runs.listing import Wanted

    wanted = Wanted(
        query=options.query,
        states=frozenset(options.state),
        tag=options.tag,
        sort=options.sort,
    )
    if options.json:
        views = forge.runs.views(wanted, limit=options.limit)
        print(json.dumps([view.as_dict() for view in views], indent=2))
    else:
        print_runs(forge.history.page(wanted, limit=options.limit))
    return DONE


def _note(options: argparse.Namespace, forge: Forge) -> int:
    said = forge.history.annotate(options.run, name=options.name, note=options.text)
    print(json.dumps(said) if options.json else f"{options.run}: noted.")
    return DONE


def _tag(options: argparse.Namespace, forge: Forge) -> int:
    gone = {tag.lower() for tag in options.remove}
    kept = [tag for tag in forge.runs.view(options.run).tags if tag not in gone]
    said = forge.history.annotate(options.run, tags=[*kept, *options.tags])
    shown = ", ".join(said["tags"]) or "no tags"
    print(json.dumps(said) if options.json else f"{options.run}: {plain(shown)}")
    return DONE


def _compare(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.cli.output import print_comparison

    compared = forge.history.compare(options.run)
    if options.csv:
        options.csv.write_text("".join(forge.history.export_csv(options.run)), encoding="utf-8")
    if options.html:
        options.html.write_text(forge.history.export_html(options.run), encoding="utf-8")
    if options.json:
        print(json.dumps(compared.as_dict(points=500), indent=2))
    else:
        print_comparison(compared)
    return DONE


def _show(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.cli.output import print_run

    view = forge.runs.view(options.run)
    cause, verdict = forge.diagnosis.cause(view.id), forge.diagnosis.verdict(view.id)
    if options.json:
        told = {"diagnosis": cause, "verdict": verdict}
        more = {name: one.as_dict() if one else None for name, one in told.items()}
        print(json.dumps(view.as_dict() | more, indent=2))
    else:
        print_run(view, forge.runs.folder(view.id).path, cause=cause, verdict=verdict)
    return DONE


def _stop(options: argparse.Namespace, forge: Forge) -> int:
    forge.runs.stop(options.run, keep=not options.discard)
    return _show(options, forge)


def _resume(options: argparse.Namespace, forge: Forge) -> int:
    forge.resume.resume(options.run)
    return _show(options, forge)


def _continue(options: argparse.Namespace, forge: Forge) -> int:
    for name in ("epochs", "steps"):
        many = getattr(options, name)
        if many is not None and many < 1:
            raise ConfigError(Problem(f"--{name}", f"{many} is not more.", "Give 1 or more."))
    options.run = forge.resume.continue_run(options.run, epochs=options.epochs, steps=options.steps)
    return _show(options, forge)


def _delete(options: argparse.Namespace, forge: Forge) -> int:
    forge.runs.delete(options.run)
    print(json.dumps({"deleted": options.run}) if options.json else f"{options.run} deleted.")
    return DONE


def _retry(options: argparse.Namespace, forge: Forge) -> int:
    changes = forge.diagnosis.changes(options.run)
    run_id = forge.diagnosis.apply_fix(options.run)
    if options.json:
        told = {change.name: change.after for change in changes}
        print(json.dumps({"id": run_id, "changed": told}))
        return DONE
    for change in changes:
        print(f"{change.label}: {change.before} becomes {change.after}.")
    print(run_id)
    return DONE


def _bundle(options: argparse.Namespace, forge: Forge) -> int:
    import shutil

    made = forge.diagnosis.support_bundle(options.run)
    target = options.file or Path(f"modelforge-{options.run}.zip")
    try:
        shutil.copyfile(made, target)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problem = Problem(str(target), f"It cannot be written: {reason}.", "Name another file.")
        raise ConfigError(problem) from error
    finally:
        made.unlink(missing_ok=True)
    print(
        json.dumps({"file": str(target)}) if options.json else f"{target}: look through it first."
    )
    return DONE
