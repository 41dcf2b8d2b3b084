"""`modelforge storage usage|free|stored|delete|download`."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from modelforge.cli.output import DONE, escape_control, print_json, print_table
from modelforge.cli.parsing import OpenForge, command_group, require_agreement
from modelforge.errors import RunError
from modelforge.units import human_bytes

if TYPE_CHECKING:
    from modelforge.forge import Forge

POLL_S, PRINT_S = 0.2, 2.0
FREEABLE = ("checkpoints", "leftovers", "caches", "deleted")


def add(commands: Any, shared: argparse.ArgumentParser, open_forge: OpenForge) -> None:
    """Add the command `storage` to the parser."""
    about = "Show and free disk space: runs, data files and downloaded models."
    new = command_group(commands, "storage", about, shared, open_forge)
    new("usage", _usage, "Show the disk usage of the home folder.")
    free = new("free", _free, "Delete files that are not needed.")
    free.add_argument("kind", choices=FREEABLE, help=", ".join(FREEABLE))
    new("stored", _stored, "List uploaded and downloaded data files and models.")
    delete = new("delete", _delete, "Delete uploaded or downloaded data files or models.")
    delete.add_argument("kind", choices=("data", "model"), help="data or model")
    delete.add_argument("name", nargs="+", help="names, as `storage stored` shows them")
    download = new("download", _download, "Download a model of the Hugging Face Hub.")
    download.add_argument("model", help="its Hub id, such as Qwen/Qwen3-0.6B")
    for command in (free, delete):
        command.add_argument("--yes", action="store_true", help="delete without asking")


def _usage(options: argparse.Namespace, forge: Forge) -> int:
    usage = forge.storage.usage()
    if options.json:
        return print_json(usage)
    print_table([(kind.kind, human_bytes(kind.bytes)) for kind in usage.kinds], ["kind", "size"])
    print(f"{human_bytes(usage.bytes)} in use, {human_bytes(usage.disk_free)} free.")
    for item in usage.freeable:
        print(f"modelforge storage free {item.kind}: {human_bytes(item.bytes)}. {item.loses}")
    return DONE


def _stored(options: argparse.Namespace, forge: Forge) -> int:
    items = forge.stored.items()
    if options.json:
        return print_json(items)
    rows = [
        (item.kind, human_bytes(item.bytes), str(item.uses), escape_control(item.name))
        for item in items
    ]
    print_table(rows, ["kind", "size", "runs", "name"]) if rows else print("Nothing is stored.")
    return DONE


def _free(options: argparse.Namespace, forge: Forge) -> int:
    found = [item for item in forge.storage.usage().freeable if item.kind == options.kind]
    for item in found:
        require_agreement(options, "storage", f"Free {human_bytes(item.bytes)}? {item.loses}")
    freed = forge.storage.free(options.kind) if found else 0
    print(json.dumps({"freed": freed}) if options.json else f"{human_bytes(freed)} freed.")
    return DONE


def _delete(options: argparse.Namespace, forge: Forge) -> int:
    using = [
        f"{run.name}"
        for item in forge.stored.items()
        if item.kind == options.kind and item.name in options.name
        for run in item.runs
    ]
    note = f" Used by {', '.join(dict.fromkeys(using))}." if using else ""
    require_agreement(
        options, "storage", escape_control(f"Delete {', '.join(options.name)}?{note}")
    )
    freed = forge.stored.delete(options.kind, options.name)
    print(json.dumps({"freed": freed}) if options.json else f"{human_bytes(freed)} freed.")
    return DONE


def _download(options: argparse.Namespace, forge: Forge) -> int:
    current, shown = forge.downloads.start(options.model), 0.0
    try:
        while current.state == "running":
            time.sleep(POLL_S)
            current = forge.downloads.current() or current
            if not options.json and time.monotonic() - shown > PRINT_S:
                shown = time.monotonic()
                print(f"{human_bytes(current.done)} of {human_bytes(current.total)}", flush=True)
    finally:
        forge.close()
    if current.problem:
        raise RunError(current.problem)
    print_json(current) if options.json else print(f"{options.model} is downloaded.")
    return DONE
