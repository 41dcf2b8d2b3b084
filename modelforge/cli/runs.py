"""`modelforge runs list|show|stop|resume|continue|…`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import (
    DONE,
    escape_control,
    print_comparison,
    print_deleted,
    print_growth,
    print_json,
    print_run,
    print_runs,
)
from modelforge.cli.parsing import (
    UNUSABLE_PATH,
    NewCommand,
    OpenForge,
    command_group,
    not_written,
    require_agreement,
    write_file,
)
from modelforge.cli.targets.commands import ON
from modelforge.errors import ConfigError, Problem
from modelforge.units import human_bytes

if TYPE_CHECKING:
    from modelforge.forge import Forge

WITH = "queue a run that trains so with the same FLOPs"


def add(commands: Any, shared: argparse.ArgumentParser, open_forge: OpenForge) -> None:
    """Add the command `runs` to the parser."""
    about = "List, show, name, compare, stop, continue, retry, bundle, move or delete runs."
    new = command_group(commands, "runs", about, shared, open_forge)
    _add_list(new)
    _add_run_commands(new)
    _add_trash(new)
    _add_archives(new)
    _add_notes(new)
    _add_compare(new)


def _add_list(new: NewCommand) -> None:
    listed = new("list", _list, "List the runs, newest first.")
    listed.add_argument("--query", default="", help="words to find in the run")
    listed.add_argument("--state", action="append", default=[], help="only runs in this state")
    listed.add_argument("--tag", default="", help="only runs with this tag")
    listed.add_argument("--sort", default="age", help="age, name, loss, duration or size")
    listed.add_argument("--limit", type=int, help="maximum number")


def _add_notes(new: NewCommand) -> None:
    note = new("note", _note, "Write a note for a run, or rename it.")
    note.add_argument("run", help="id of the run")
    note.add_argument("text", nargs="?", help="the note; empty removes it")
    note.add_argument("--name", help="the new name; empty restores the original")
    tag = new("tag", _tag, "Tag a run.")
    tag.add_argument("run", help="id of the run")
    tag.add_argument("tags", nargs="*", help="tags to add")
    tag.add_argument("--remove", action="append", default=[], help="tag to remove")


def _add_compare(new: NewCommand) -> None:
    compare = new("compare", _compare, "Compare two or more runs.")
    compare.add_argument("run", nargs="+", help="ids of runs")
    compare.add_argument("--csv", type=Path, help="write all metrics to this file")
    compare.add_argument("--html", type=Path, help="write the comparison as a page to this file")


def _add_run_commands(new: NewCommand) -> None:
    show = new("show", _show, "Show a run.")
    stop = new("stop", _stop, "Stop a run and keep its model.")
    stop.add_argument("--discard", action="store_true", help="discard its model")
    stop.add_argument("--yes", action="store_true", help="discard it without asking")
    resume = new("resume", _resume, "Resume an unfinished run.")
    resume.add_argument(
        "--step", type=int, metavar="N", help="checkpoint to start from; later ones are deleted"
    )
    resume.add_argument("--on", metavar="TARGET", help=f"{ON}; default: where it was")
    fetch = new("fetch", _fetch, "Bring the checkpoints of a run elsewhere to this computer.")
    more = new("continue", _continue, "Start a new run that continues from the end of this one.")
    amount = more.add_mutually_exclusive_group()
    amount.add_argument("--epochs", type=int, metavar="N", help="additional epochs")
    amount.add_argument("--steps", type=int, metavar="N", help="additional steps")
    more.add_argument("--from-step", type=int, metavar="N", help="checkpoint to continue from")
    retry = new("retry", _retry, "Start a failed run again with the suggested fix.")
    growth = new("growth", _growth, "Compare a growing model with other ways to train.")
    growth.add_argument("--with", dest="way", choices=("lora", "at-once"), help=WITH)
    bundle = new("bundle", _bundle, "Write a support bundle (zip) without private data.")
    for command in (show, stop, resume, fetch, more, retry, growth, bundle):
        command.add_argument("run", help="id of the run")
    bundle.add_argument("file", nargs="?", type=Path, help="where to write it")


def _add_trash(new: NewCommand) -> None:
    delete = new("delete", _delete, "Delete runs that are over; they can be restored for a week.")
    delete.add_argument("run", nargs="+", help="ids of runs")
    delete.add_argument("--yes", action="store_true", help="delete them without asking")
    restore = new("restore", _restore, "Restore deleted runs.")
    restore.add_argument("run", nargs="+", help="ids of deleted runs")
    deleted = new("deleted", _deleted, "List the deleted runs, or remove them for good.")
    deleted.add_argument("--empty", action="store_true", help="remove all of them for good")
    deleted.add_argument("--yes", action="store_true", help="remove them without asking")


def _add_archives(new: NewCommand) -> None:
    pack = new("pack", _pack, "Write a run as a zip file, for another computer.")
    pack.add_argument("run", help="id of the run")
    pack.add_argument("file", nargs="?", type=Path, help="where to write it; default: ID.zip")
    taken = new("import", _import, "Take in the run of a zip file from another computer.")
    taken.add_argument("file", type=Path, help="file of `runs pack` or of a notebook")


def _list(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.runs.listing import RunFilter

    wanted = RunFilter(
        query=options.query,
        states=frozenset(options.state),
        tag=options.tag,
        sort=options.sort,
    )
    if not options.json:
        return print_runs(forge.history.page(wanted, limit=options.limit))
    views = forge.runs.views(wanted, limit=options.limit)
    return print_json(views)


def _note(options: argparse.Namespace, forge: Forge) -> int:
    notes = forge.history.annotate(options.run, name=options.name, note=options.text)
    print(json.dumps(asdict(notes)) if options.json else f"{options.run}: saved.")
    return DONE


def _tag(options: argparse.Namespace, forge: Forge) -> int:
    removed = {tag.lower() for tag in options.remove}
    kept = [tag for tag in forge.runs.view(options.run).tags if tag not in removed]
    notes = forge.history.annotate(options.run, tags=[*kept, *options.tags])
    tags = ", ".join(notes.tags) or "no tags"
    print(json.dumps(asdict(notes)) if options.json else f"{options.run}: {escape_control(tags)}")
    return DONE


def _compare(options: argparse.Namespace, forge: Forge) -> int:
    compared = forge.history.compare(options.run)
    if options.csv:
        write_file(options.csv, "".join(forge.history.export_csv(options.run)))
    if options.html:
        write_file(options.html, forge.history.export_html(options.run))
    return print_json(compared.as_dict(points=500)) if options.json else print_comparison(compared)


def _show(options: argparse.Namespace, forge: Forge) -> int:
    view = forge.runs.view(options.run)
    if not options.json:
        return print_run(forge, view)
    cause, verdict = forge.diagnosis.cause(view.id), forge.diagnosis.verdict(view.id)
    return print_json(vars(view) | {"diagnosis": cause, "verdict": verdict})


def _growth(options: argparse.Namespace, forge: Forge) -> int:
    from modelforge.config.plan.growth_comparison import Way

    if options.way:
        forge.growth_comparisons.add(options.run, Way(options.way))
    found = forge.growth_comparisons.comparisons(options.run)
    return print_json(found) if options.json else print_growth(found)


def _stop(options: argparse.Namespace, forge: Forge) -> int:
    if options.discard:
        name = escape_control(forge.runs.view(options.run).name)
        question = f"Stop {name} ({options.run}) and discard its model?"
        require_agreement(options, "--discard", question, "The run was not stopped.")
    forge.runs.stop(options.run, keep=not options.discard)
    return _show(options, forge)


def _resume(options: argparse.Namespace, forge: Forge) -> int:
    forge.resume.resume(options.run, options.step, options.on)
    return _show(options, forge)


def _fetch(options: argparse.Namespace, forge: Forge) -> int:
    forge.targets.fetch(forge.runs.folder(options.run))
    return _show(options, forge)


def _continue(options: argparse.Namespace, forge: Forge) -> int:
    for name in ("epochs", "steps"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(Problem(f"--{name}", f"{value} is too small.", "Give 1 or more."))
    options.run = forge.resume.continue_run(
        options.run, epochs=options.epochs, steps=options.steps, from_step=options.from_step
    )
    return _show(options, forge)


def _delete(options: argparse.Namespace, forge: Forge) -> int:
    names = [f"{escape_control(forge.runs.view(run).name)} ({run})" for run in options.run]
    question = f"Delete {', '.join(names)} with all files?"
    require_agreement(options, ", ".join(options.run), question)
    forge.trash.delete(options.run)
    text = f"{', '.join(options.run)} deleted. `modelforge runs restore` restores it for a week."
    deleted = options.run if len(options.run) > 1 else options.run[0]
    print(json.dumps({"deleted": deleted}) if options.json else text)
    return DONE


def _restore(options: argparse.Namespace, forge: Forge) -> int:
    forge.trash.restore(options.run)
    text = f"{', '.join(options.run)} restored."
    print(json.dumps({"restored": options.run}) if options.json else text)
    return DONE


def _deleted(options: argparse.Namespace, forge: Forge) -> int:
    runs = forge.trash.runs()
    if not options.empty:
        return print_json(runs) if options.json else print_deleted(runs)
    question = f"Remove {len(runs)} deleted runs for good?"
    if runs:
        require_agreement(options, "--empty", question, "Nothing was removed.")
    freed = forge.trash.empty()
    print(json.dumps({"freed": freed}) if options.json else f"{human_bytes(freed)} freed.")
    return DONE


def _pack(options: argparse.Namespace, forge: Forge) -> int:
    target = forge.archives.pack(options.run, options.file or Path(f"{options.run}.zip"))
    size = target.stat().st_size
    text = (
        f"{target}: written, {human_bytes(size)}. `modelforge runs import` takes it in elsewhere."
    )
    written = json.dumps({"file": str(target), "bytes": size})
    print(written if options.json else escape_control(text))
    return DONE


def _import(options: argparse.Namespace, forge: Forge) -> int:
    options.run = forge.archives.take_in(options.file)
    return _show(options, forge)


def _retry(options: argparse.Namespace, forge: Forge) -> int:
    changes = forge.diagnosis.changes(options.run)
    run_id = forge.diagnosis.apply_fix(options.run)
    if options.json:
        changed = {change.name: change.after for change in changes}
        print(json.dumps({"id": run_id, "changed": changed}))
        return DONE
    for change in changes:
        print(f"{change.label}: {change.before} → {change.after}")
    print(run_id)
    return DONE


def _bundle(options: argparse.Namespace, forge: Forge) -> int:
    import shutil

    bundle = forge.diagnosis.support_bundle(options.run)
    target = options.file or Path(f"modelforge-{options.run}.zip")
    try:
        shutil.copyfile(bundle, target)
    except UNUSABLE_PATH as error:
        raise not_written(target, error) from error
    finally:
        bundle.unlink(missing_ok=True)
    message = f"{target}: review it before you share it."
    print(json.dumps({"file": str(target)}) if options.json else escape_control(message))
    return DONE
