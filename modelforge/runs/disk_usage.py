"""Disk usage: bytes of a folder, and of a run by part."""

from __future__ import annotations

import os
from pathlib import Path

from modelforge.runs.layout import RunFolder

# Part → the names in a run folder that belong to it; all others are its record.
PARTS = {
    "checkpoints": ("checkpoints",),
    "output": ("output", "merged"),
    "reward_model": ("reward_model",),
    "start_model": ("start_model", "tokens"),
    "stages": ("stages", "trunk_cache"),
    "logs": ("worker.log", "events.jsonl"),
    "data": ("data",),
}
RECORD, LEFTOVERS = "record", "leftovers"
_PART_OF = {name: part for part, names in PARTS.items() for name in names}


def run_sizes(folder: RunFolder) -> dict[str, int]:
    """Return the bytes of a run by part; absent parts are left out.

    Leftovers are staging folders of a process that was interrupted; they are never read.
    """
    sizes: dict[str, int] = {}
    try:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                default = LEFTOVERS if is_folder and entry.name.startswith(".") else RECORD
                part = _PART_OF.get(entry.name, default)
                size = (
                    folder_bytes(Path(entry.path))
                    if is_folder
                    else entry.stat(follow_symlinks=False).st_size
                )
                if size:
                    sizes[part] = sizes.get(part, 0) + size
    except OSError:
        pass  # it is being deleted
    return sizes


def folder_bytes(path: Path) -> int:
    """Return the bytes of everything below a folder; links are not followed."""
    size = 0
    pending = [str(path)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # deleted meanwhile
    return size
