"""What lies on the disk: bytes of a folder, and of a run by its parts."""

from __future__ import annotations

import os
from pathlib import Path

from modelforge.runs.layout import RunFolder

# Part → the names in a run folder that belong to it; whatever is left is its record.
PARTS = {
    "checkpoints": ("checkpoints",),
    "output": ("output",),
    "reward_model": ("reward_model",),
    "logs": ("worker.log", "events.jsonl"),
}
RECORD, LEFTOVERS = "record", "leftovers"
_PART_OF = {name: part for part, names in PARTS.items() for name in names}


def run_sizes(folder: RunFolder) -> dict[str, int]:
    """Return the bytes of a run by part; parts that are not there are left out.

    Leftovers are folders that were being made when their maker ended: no reader looks into them.
    """
    sizes: dict[str, int] = {}
    try:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                part = _PART_OF.get(entry.name)
                if part is None:
                    unfinished = entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
                    part = LEFTOVERS if unfinished else RECORD
                if held := _bytes_of(entry):
                    sizes[part] = sizes.get(part, 0) + held
    except OSError:
        pass  # it is being deleted
    return sizes


def folder_bytes(path: Path) -> int:
    """Return the bytes of everything below a folder; links are not followed."""
    held = 0
    waiting = [str(path)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        held += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # what has gone in between takes no room
    return held


def _bytes_of(entry: os.DirEntry[str]) -> int:
    if entry.is_dir(follow_symlinks=False):
        return folder_bytes(Path(entry.path))
    return entry.stat(follow_symlinks=False).st_size
