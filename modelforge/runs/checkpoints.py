"""The checkpoints of a run: list, verify, prune and delete them.

A checkpoint is a folder with a manifest of the size and hash of every file in it. The manifest is
written last: a folder without one is incomplete, or was not written by ModelForge.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import RunFolder

FORMAT = 1
MANIFEST = "manifest.json"
STAGED, GONE = ".staged-", ".gone-"
_NAME = re.compile(r"checkpoint-(\d{1,12})")
_WHY = {
    "missing": "{file} is missing",
    "size": "the size of {file} has changed",
    "hash": "the content of {file} has changed",
    "unknown": "{file} is not in its manifest",
    "manifest": "its {file} is missing or cannot be read",
    "path": "its manifest names {file}, which is outside the folder",
}


@dataclass(frozen=True)
class Checkpoint:
    """A state to resume from: its step, its stage in runs with stages, and its size in bytes."""

    path: Path
    step: int
    stage: int | None
    size: int

    @property
    def name(self) -> str:
        """The folder's name, checkpoint-STEP."""
        return self.path.name


@dataclass(frozen=True)
class Damage:
    """A damaged checkpoint, which is not used."""

    name: str
    file: Annotated[str, about("The first file that differs from what was saved.")]
    reason: Annotated[str, about("missing, size, hash, unknown, manifest or path.")]
    why: Annotated[str, about("The reason as a sentence.")] = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "why", _WHY[self.reason].format(file=self.file))


def write_manifest(folder: Path, *, step: int, stage: int | None) -> None:
    """Sync and hash every file of `folder`, then write the manifest and sync the folder."""
    files = {name: _sync_file(folder / name) for name in _names(folder)}
    for inner in {(folder / name).parent for name in files}:
        sync_folder(inner)
    write_json(folder / MANIFEST, {"format": FORMAT, "step": step, "stage": stage, "files": files})
    sync_folder(folder)


def verify(folder: Path, *, hashes: bool = True) -> Damage | None:
    """Return the damage of a checkpoint, or None. Without `hashes` only sizes are compared."""
    manifest = find_json(folder / MANIFEST)
    read = _read(folder, manifest)
    if read is None or manifest is None:
        return Damage(folder.name, MANIFEST, "manifest")
    files = manifest["files"]
    for name, entry in files.items():
        if reason := _size_problem(folder, name, entry.get("size")):
            return Damage(folder.name, name, reason)
    # A file that was added later might be read in place of a saved one.
    for name in _names(folder):
        if name not in files:
            return Damage(folder.name, name, "unknown")
    for name, entry in files.items() if hashes else ():
        if _hash(folder / name) != entry.get("sha256"):
            return Damage(folder.name, name, "hash")
    return None


def list_checkpoints(run: RunFolder) -> list[Checkpoint]:
    """Return the checkpoints with a manifest, newest first, without verifying them."""
    items = (_read(path, find_json(path / MANIFEST)) for path in _folders(run))
    checkpoints = [item for item in items if item is not None]
    return sorted(checkpoints, key=lambda item: (item.stage or 0, item.step), reverse=True)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in a folder; None if it has no manifest, or files of other sizes."""
    try:
        found = _read(folder, find_json(folder / MANIFEST)) if folder.is_dir() else None
    except (OSError, ValueError):
        return None
    return found if found and verify(folder, hashes=False) is None else None


def valid_checkpoints(run: RunFolder) -> list[Checkpoint]:
    """Return the checkpoints whose files have the sizes of their manifests, newest first."""
    return [each for each in list_checkpoints(run) if verify(each.path, hashes=False) is None]


def newest_valid(run: RunFolder, *, hashes: bool = True) -> tuple[Checkpoint | None, list[Damage]]:
    """Return the newest valid checkpoint, and the damaged ones that are newer.

    Folders without a manifest count as damaged.
    """
    readable = list_checkpoints(run)
    known = {checkpoint.name for checkpoint in readable}
    damaged = [
        Damage(path.name, MANIFEST, "manifest") for path in _folders(run) if path.name not in known
    ]
    for checkpoint in readable:
        damage = verify(checkpoint.path, hashes=hashes)
        if damage is None:
            newer = [item for item in damaged if _step(Path(item.name)) > checkpoint.step]
            return checkpoint, newer
        damaged.append(damage)
    return None, damaged


def move_into_place(staged: Path, target: Path) -> None:
    """Rename a complete checkpoint to `target`, replacing an existing one."""
    if target.exists():
        remove(target)
    staged.rename(target)
    sync_folder(target.parent)


def remove(folder: Path) -> None:
    """Delete a checkpoint. It is renamed first, so that a kill never leaves a part of it."""
    gone = folder.with_name(f"{GONE}{folder.name}-{secrets.token_hex(2)}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def prune(run: RunFolder, limit: int, *, newest: int, best: int | None) -> None:
    """Delete checkpoints until `limit` are left, but never those of `newest` and `best`.

    Damaged ones that a resumed run skipped have higher numbers, and are deleted first.
    """
    folders = list(_folders(run))
    others = [path for path in folders if _step(path) not in (newest, best)]
    others.sort(key=lambda path: (_step(path) < newest, _step(path)))
    for path in others[: max(0, len(folders) - limit)]:
        remove(path)


def remove_later(run: RunFolder, checkpoint: Checkpoint) -> None:
    """Delete the checkpoints after this one, of its stage or a later one, damaged ones too."""
    known = {each.path: (each.stage or 0, each.step) for each in list_checkpoints(run)}
    own = (checkpoint.stage or 0, checkpoint.step)
    for path in list(_folders(run)):
        if known.get(path, (checkpoint.stage or 0, _step(path))) > own:
            remove(path)


def copy_with_best(source: Path, target: Path) -> None:
    """Copy a checkpoint, and the best one of its run if it is intact, into the folder `target`."""
    state = find_json(source / "trainer_state.json") or {}
    best = source.parent / f"checkpoint-{state.get('best_global_step')}"
    paths = {source, best} if best.is_dir() and verify(best) is None else {source}
    for path in paths:
        staged = target / f"{STAGED}{path.name}"
        shutil.copytree(path, staged)
        move_into_place(staged, target / path.name)


def sweep(run: RunFolder) -> None:
    """Delete what a killed worker left incompletely written or deleted."""
    for prefix in (STAGED, GONE):
        for path in run.checkpoints.glob(f"{prefix}*"):
            shutil.rmtree(path, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to disk, where the system supports it."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # unsupported by some file systems; the files are synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _read(folder: Path, manifest: dict[str, Any] | None) -> Checkpoint | None:
    """Return the checkpoint that the manifest describes, or None when it is invalid."""
    match manifest:
        case {"format": 1, "step": int(step), "stage": int() | None as stage, "files": dict(files)}:
            abouts = files.values()
            if step != _step(folder) or not all(isinstance(about, dict) for about in abouts):
                return None
            sizes = [about.get("size") for about in abouts]
            size = sum(size for size in sizes if isinstance(size, int))
            return Checkpoint(folder, step, stage, size)
    return None


def _folders(run: RunFolder) -> Iterator[Path]:
    try:
        entries = sorted(run.checkpoints.iterdir())
    except OSError:
        return
    for path in entries:
        if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            yield path


def _step(folder: Path) -> int:
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else -1


def _names(folder: Path) -> list[str]:
    """Return every file below `folder` except the manifest and hidden files."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if (path.is_symlink() or not path.is_dir())
        and not path.name.startswith(".")
        and path != folder / MANIFEST
    )


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name
    )


def _sync_file(path: Path) -> dict[str, Any]:
    """Sync a file to disk and return its size and hash."""
    # Some systems only sync files that are open for writing.
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256")
        os.fsync(file.fileno())
        return {"size": file.tell(), "sha256": digest.hexdigest()}


def _size_problem(folder: Path, name: str, size: object) -> str | None:
    """Return the reason why a file is damaged, without reading it, or None."""
    if not _is_inside(name):
        return "path"
    try:
        status = (folder / name).lstat()
    except OSError:
        return "missing"
    if not stat.S_ISREG(status.st_mode):
        return "missing"  # also a link
    return "size" if status.st_size != size else None


def _hash(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
