"""The checkpoints of a run: which there are, which can be trusted, and what is wrong with others.

A checkpoint is a folder with a manifest that names every file in it by size and hash. The manifest
is written last, so a folder without one was never whole, or is not ours.
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
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.layout import RunFolder
from modelforge.units import MIB

FORMAT = 1
MANIFEST = "manifest.json"
STAGED, GONE = ".staged-", ".gone-"
CHUNK = MIB
_NAME = re.compile(r"checkpoint-(\d{1,12})")
_WHY = {
    "missing": "{file} is missing",
    "size": "{file} has another size than it was saved with",
    "hash": "{file} has other content than it was saved with",
    "unknown": "{file} was not saved with it",
    "manifest": "its {file} is missing or cannot be read",
    "path": "its manifest names {file}, which lies outside",
}


@dataclass(frozen=True)
class Checkpoint:
    """A state to go on from: the update it was saved after, and the stage if there are several."""

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
    """What is wrong with the checkpoint `name`: the first bad file, and why.

    `reason` is missing, size, hash, unknown, manifest or path.
    """

    name: str
    file: str
    reason: str

    @property
    def why(self) -> str:
        """What is wrong, in words."""
        return _WHY[self.reason].format(file=self.file)

    def as_dict(self) -> dict[str, str]:
        """Return the damage as plain data."""
        return asdict(self) | {"why": self.why}


def write_manifest(folder: Path, *, step: int, stage: int | None) -> None:
    """Put every file of `folder` on the disk for certain, then its manifest, then the folder.

    Each file is read once for its hash while it is made to stay.
    """
    files = {name: _settle(folder / name) for name in _names(folder)}
    for inner in {(folder / name).parent for name in files}:
        sync_folder(inner)
    write_json(folder / MANIFEST, {"format": FORMAT, "step": step, "stage": stage, "files": files})
    sync_folder(folder)


def verify(folder: Path, *, hashes: bool = True) -> Damage | None:
    """Return what is wrong with a checkpoint, or None. Without `hashes` only sizes are compared."""
    manifest = find_json(folder / MANIFEST)
    read = _read(folder, manifest)
    if read is None or manifest is None:
        return Damage(folder.name, MANIFEST, "manifest")
    files = manifest["files"]
    for name, about in files.items():
        if reason := _fault(folder, name, about.get("size")):
            return Damage(folder.name, name, reason)
    # What was put there later might be read in place of what was saved.
    for name in _names(folder):
        if name not in files:
            return Damage(folder.name, name, "unknown")
    for name, about in files.items() if hashes else ():
        if _hash(folder / name) != about.get("sha256"):
            return Damage(folder.name, name, "hash")
    return None


def list_checkpoints(run: RunFolder) -> list[Checkpoint]:
    """Return the checkpoints with a manifest, newest first; none of them has been checked."""
    found = (_read(path, find_json(path / MANIFEST)) for path in _folders(run))
    return sorted(
        (each for each in found if each is not None),
        key=lambda each: (each.stage or 0, each.step),
        reverse=True,
    )


def newest_valid(run: RunFolder, *, hashes: bool = True) -> tuple[Checkpoint | None, list[Damage]]:
    """Return the newest checkpoint that can be trusted, and the damaged ones that are newer.

    Folders without a manifest count as damaged.
    """
    readable = list_checkpoints(run)
    known = {each.name for each in readable}
    damaged = [
        Damage(path.name, MANIFEST, "manifest") for path in _folders(run) if path.name not in known
    ]
    for checkpoint in readable:
        damage = verify(checkpoint.path, hashes=hashes)
        if damage is None:
            newer = [each for each in damaged if _step(Path(each.name)) > checkpoint.step]
            return checkpoint, newer
        damaged.append(damage)
    return None, damaged


def move_into_place(staged: Path, place: Path) -> None:
    """Rename a whole checkpoint to where it belongs; one that is there already makes room."""
    if place.exists():
        remove(place)
    staged.rename(place)
    sync_folder(place.parent)


def remove(folder: Path) -> None:
    """Delete a checkpoint. It is renamed first, so that a kill leaves nothing half."""
    gone = folder.with_name(f"{GONE}{folder.name}-{secrets.token_hex(2)}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def prune(run: RunFolder, limit: int, *, newest: int, best: int | None) -> None:
    """Delete checkpoints until `limit` are left, but never those of `newest` and `best`.

    Damaged ones that a resumed run has passed over have higher numbers, and go first.
    """
    there = list(_folders(run))
    others = [path for path in there if _step(path) not in (newest, best)]
    others.sort(key=lambda path: (_step(path) < newest, _step(path)))
    for path in others[: max(0, len(there) - limit)]:
        remove(path)


def sweep(run: RunFolder) -> None:
    """Delete what a worker that was killed has left half written or half deleted."""
    for prefix in (STAGED, GONE):
        for path in run.checkpoints.glob(f"{prefix}*"):
            shutil.rmtree(path, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder stay, where the system can be asked to."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # some file systems refuse; the files themselves are safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _read(folder: Path, manifest: dict[str, Any] | None) -> Checkpoint | None:
    """Return the checkpoint that the manifest describes, or None when it describes none here."""
    match manifest:
        case {"format": 1, "step": int(step), "stage": int() | None as stage, "files": dict(files)}:
            abouts = files.values()
            if step != _step(folder) or not all(isinstance(about, dict) for about in abouts):
                return None
            sizes = (about.get("size") for about in abouts)
            return Checkpoint(
                folder, step, stage, sum(size for size in sizes if isinstance(size, int))
            )
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
    named = _NAME.fullmatch(folder.name)
    return int(named[1]) if named else -1


def _names(folder: Path) -> list[str]:
    """Return every file below `folder` but the manifest and hidden ones, which nobody reads."""
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


def _settle(path: Path) -> dict[str, Any]:
    """Return size and hash of a file that is on the disk for certain."""
    # Some systems only sync what is open for writing.
    with path.open("r+b") as file:
        digest, size = hashlib.sha256(), 0
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
        os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def _size(path: Path) -> int | None:
    """Return the size of a plain file; a link leads elsewhere and counts as missing."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _fault(folder: Path, name: str, size: object) -> str | None:
    """Return what can be told of a file without reading it, or None."""
    if not _is_inside(name):
        return "path"
    found = _size(folder / name)
    if found is None:
        return "missing"
    return "size" if found != size else None


def _hash(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
