"""Take the files of a run from elsewhere into its folder here, after a check of every name."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from modelforge.errors import Problem, RunError
from modelforge.runs.atomic_files import disk_error, find_json, write_json, write_text
from modelforge.runs.checkpoints import MANIFEST
from modelforge.runs.layout import RunFolder
from modelforge.units import MIB

# The parts of a run folder that a worker elsewhere writes; everything else stays there.
PARTS = (
    "output", "merged", "checkpoints", "reward_model", "start_model", "stages", "trackers",
    "evaluation_losses", "row_losses", "came_from", "exit",
)  # fmt: skip
# Files that may name a path of the other computer, as PEFT and the model card do.
TEXTS = (".json", ".md", ".yaml")
MAX_TEXT_BYTES = MIB
UNUSUAL = re.compile(r"[\x00-\x1f\x7f\\:]")


def take(staged: Path, run: RunFolder, there: Mapping[str, str]) -> None:
    """Move the parts of a run from `staged` into its folder, in place of those that are there.

    `there` has the paths there and what they are here. Raises RunError for files with unusual
    names or of other kinds; then nothing is moved.
    """
    _check_tree(staged)
    # Checkpoints first: they are sealed again, and nothing in them changes afterwards.
    for folder in (*sorted(staged.glob("checkpoints/checkpoint-*")), staged):
        _translate(folder, there)
    # The record of the exit is the last one: with it, the run is here.
    for part in PARTS:
        target: Path = getattr(run, part)
        source = staged / target.name
        if not source.exists():
            continue
        try:
            gone = target.with_name(f".gone-{target.name}")
            shutil.rmtree(gone, ignore_errors=True)
            if target.is_dir():
                target.rename(gone)
            source.rename(target)
            shutil.rmtree(gone, ignore_errors=True)
        except OSError as error:
            raise disk_error(error, target) from error


def _check_tree(folder: Path) -> None:
    """Raise RunError unless a folder has only folders and regular files with usual names."""
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)) or UNUSUAL.search(path.name):
            raise _foreign(path.relative_to(folder).as_posix(), "is not a usual file")


def _foreign(name: str, what: str) -> RunError:
    shown = UNUSUAL.sub("?", name)[:120]
    remedy = "Nothing of it was used. Look at the folder there before you trust it."
    return RunError(Problem("target", f"{shown!r} from the target {what}.", remedy))


def _translate(folder: Path, there: Mapping[str, str]) -> None:
    """Replace paths of the other computer in small text files, and seal a checkpoint again."""
    pairs = [(_in_json(far), _in_json(here)) for far, here in there.items()]
    changed = []
    for path in folder.rglob("*"):
        is_text = path.suffix in TEXTS and path.name != MANIFEST and path.is_file()
        if not is_text or path.stat().st_size > MAX_TEXT_BYTES:
            continue
        before = text = path.read_text(encoding="utf-8", errors="surrogateescape")
        for far, here in pairs:
            text = text.replace(far, here)
        if text != before:
            # A file of the run, whose mode decides who may read it.
            mode = path.stat().st_mode
            write_text(path, text)
            path.chmod(mode)
            changed.append(path)
    manifest = find_json(folder / MANIFEST)
    if manifest is None:
        return
    for path in changed:
        data = path.read_bytes()
        about = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest["files"][path.relative_to(folder).as_posix()] = about
    write_json(folder / MANIFEST, manifest)


def _in_json(path: str) -> str:
    return json.dumps(path, ensure_ascii=False)[1:-1]
