"""Deleted runs, which can be restored until they are removed for good.

They are in a hidden folder of the runs folder, so that deleting and restoring one is a rename.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from modelforge.config.schema.base import about
from modelforge.errors import ConfigError, NotFoundError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error
from modelforge.runs.disk_usage import folder_bytes
from modelforge.runs.layout import RunFolder
from modelforge.runs.notes import run_name
from modelforge.runs.store import Store, is_id
from modelforge.units import GIB

FOLDER = ".deleted"
KEPT_S = 7 * 86_400.0
MAX_BYTES = 20 * GIB
# A run is kept at least this long, however large it is.
UNDO_S = 600.0


@dataclass(frozen=True)
class DeletedRun:
    """A deleted run that can be restored."""

    id: str
    name: str
    bytes: int
    deleted: Annotated[float, about("When it was deleted, in Unix seconds.")]


class Trash:
    """The deleted runs of a home. Several servers may use the same one."""

    def __init__(self, home: Home, store: Store) -> None:
        self._runs = home.runs
        self._folder = home.runs / FOLDER
        self._store = store

    def put(self, run_id: str) -> None:
        """Move a run into the trash; raises BusyError while a process works on it."""
        folder = self._store.get(run_id)
        if self._folder.is_symlink():
            what = f"{self._folder} is a link, so runs cannot be moved there."
            raise RunError(Problem("run", what, "Remove the link."))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self._folder) from error
        target = self._folder / folder.id
        if target.exists():
            self.remove(folder.id)
        self._store.move_out(run_id, target)
        # The time of the deletion; a rename does not change it.
        with contextlib.suppress(OSError):
            os.utime(target)

    def restore(self, run_id: str) -> RunFolder:
        """Move a deleted run back to the other runs. Raises NotFoundError and RunError."""
        path, target = self._find(run_id), self._runs / run_id
        if target.exists():
            what = f"There is a run {run_id} already."
            raise ConfigError(Problem("run", what, "Delete one of the two."))
        try:
            path.rename(target)
        except OSError as error:
            raise disk_error(error, path) from error
        return RunFolder(target)

    def runs(self) -> list[DeletedRun]:
        """Return the deleted runs, the newest deletion first."""
        runs = []
        for path in self._paths():
            folder = RunFolder(path)
            try:
                deleted = path.stat().st_mtime
            except OSError:  # restored or removed meanwhile
                continue
            runs.append(DeletedRun(path.name, run_name(folder), folder_bytes(path), deleted))
        return sorted(runs, key=lambda run: -run.deleted)

    def remove(self, run_id: str) -> None:
        """Remove a deleted run for good. Raises NotFoundError."""
        shutil.rmtree(self._find(run_id), ignore_errors=True)

    def expire(self, now: float | None = None) -> None:
        """Remove what was deleted a week ago, and the oldest runs above 20 GiB together."""
        now, held = now or time.time(), 0
        for run in self.runs():
            held += run.bytes
            age = now - run.deleted
            if age > KEPT_S or (held > MAX_BYTES and age > UNDO_S):
                held -= run.bytes
                shutil.rmtree(self._folder / run.id, ignore_errors=True)

    def _paths(self) -> list[Path]:
        """Return the folders of the deleted runs; links are none."""
        try:
            if self._folder.is_symlink():
                return []
            with os.scandir(self._folder) as entries:
                return [
                    Path(entry.path)
                    for entry in entries
                    if is_id(entry.name) and entry.is_dir(follow_symlinks=False)
                ]
        except OSError:
            return []

    def _find(self, run_id: str) -> Path:
        for path in self._paths():
            if path.name == run_id:
                return path
        what = f"There is no deleted run {run_id[:80]!r}."
        raise NotFoundError(Problem("run", what, "`modelforge runs deleted` lists them."))
