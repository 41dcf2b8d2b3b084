"""Run folders: create, find, list and delete them. A folder is created completely or not at all."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelforge import __version__
from modelforge.config.providers import PROVIDER_PACKAGES
from modelforge.errors import BusyError, NotFoundError, Problem
from modelforge.hardware.machine import installed_version
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error, find_json, write_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.notes import Notes, read_notes, updated_notes, write_notes
from modelforge.runs.process.identity import kill_tree, wait_ended
from modelforge.runs.process.lock import exclusive
from modelforge.runs.states import RunFacts, read_facts

if TYPE_CHECKING:
    from modelforge.runs.index import Index

FORMAT = 1
LOCK = ".start.lock"
STAGING, GONE = ".new-", ".gone-"
STALE_S = 600.0
KILLED_S = 5.0
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,78}[A-Za-z0-9]")
PACKAGES = [
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes"),
    *("tokenizers", "safetensors", "huggingface_hub", *PROVIDER_PACKAGES, "gradio", "psutil"),
]


@dataclass(frozen=True)
class NewRun:
    """The contents of a new run folder; `report` is the preflight report.

    `base` has name, revision and hash of the model that is trained. `metadata` is kept for the
    program that has asked for the run. `launch` is the record of a run that trains elsewhere.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    trial_run: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    launch: Mapping[str, Any] = field(default_factory=dict)

    def as_record(self, run_id: str, created: float) -> dict[str, Any]:
        """Return the content of config.json."""
        record = {"format": FORMAT, "id": run_id, "created": created, **vars(self)}
        del record["report"], record["launch"]
        for part in ("trial_run", "metadata"):
            if not record[part]:
                del record[part]
        return record


class Store:
    """The runs of a home. Several servers may use the same one."""

    def __init__(self, home: Home, *, runs: Path | None = None, index: Index | None = None) -> None:
        self._runs = runs or home.runs
        self._index = index
        self._records: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._records_lock = threading.Lock()

    def create(self, run: NewRun, announce: Callable[[str], None] | None = None) -> RunFolder:
        """Create a run folder and return it; `announce` receives its id before it is visible.

        Raises RunError, and leaves nothing, when the disk is full or writing is not allowed.
        """
        with exclusive(self._runs / LOCK):
            self._sweep()
            now = time.time()
            run_id = self._new_id(now)
            if announce is not None:
                announce(run_id)
            folder = RunFolder(self._runs / run_id)
            self._write(folder, run, run.as_record(run_id, now))
            return folder

    def adopt(self, staged: RunFolder, run_id: str) -> RunFolder:
        """Rename a complete folder of this home to the run with this id, and return the run."""
        folder = RunFolder(self._runs / run_id)
        with exclusive(self._runs / LOCK):
            _rename(staged.path, folder.path)
        return folder

    def exists(self, run_id: str) -> bool:
        """Return whether a run with this id exists."""
        return self._find(run_id) is not None

    def get(self, run_id: str) -> RunFolder:
        """Return the run with this id; raises NotFoundError, also for ids that are paths."""
        folder = self._find(run_id)
        if folder is None:
            what = f"There is no run {run_id[:80]!r}."
            raise NotFoundError(
                Problem("run", what, "`modelforge runs list` and the Runs page list all runs.")
            )
        return folder

    def list(self) -> list[RunFolder]:
        """Return all runs, newest first. The record of each is read only when it has changed."""
        records = self.records().items()
        newest = sorted(records, key=lambda item: (_created(item[1]), item[0]), reverse=True)
        return [RunFolder(self._runs / run_id) for run_id, _record in newest]

    def find_request(self, request_id: str) -> RunFolder | None:
        """Return the run that was created for this request, or None."""
        if self._index is not None:
            run_id = self._index.find_request(request_id)
            return None if run_id is None else self._find(run_id)
        for run_id, record in self.records().items():
            if record.get("request_id") == request_id:
                return RunFolder(self._runs / run_id)
        return None

    def delete(self, run_id: str) -> None:
        """Delete a run and all its files; raises BusyError while a process works on it."""
        with exclusive(self._runs / LOCK):
            # One rename, so that a partly deleted run is never listed.
            gone = self._gone_path(run_id)
            self.move_out(run_id, gone)
            try:
                shutil.rmtree(gone)
            except OSError as error:
                raise disk_error(error, self._runs / run_id) from error

    def move_out(self, run_id: str, target: Path) -> None:
        """Rename the folder of a run; raises BusyError while a process works on it."""
        folder = self.get(run_id)
        with exclusive(self._runs / LOCK):
            facts = _require_inactive(folder)
            if facts.alive and facts.process is not None:
                kill_tree(facts.process)
                wait_ended(facts.process, KILLED_S)
            _rename(folder.path, target)

    def annotate(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        note: str | None = None,
    ) -> Notes:
        """Change the user's name, tags and note of a run; None leaves a part as it is.

        Raises ConfigError with all values that exceed a limit.
        """
        folder = self.get(run_id)
        with exclusive(self._runs / LOCK):
            notes = updated_notes(read_notes(folder), name=name, tags=tags, note=note)
            write_notes(folder, notes)
        self.touch()
        return notes

    def delete_parts(self, run_id: str, paths: Iterable[Path]) -> int:
        """Delete subfolders of a run and return their number.

        Raises BusyError while a process works on the run.
        """
        folder = self.get(run_id)
        with exclusive(self._runs / LOCK):
            if _require_inactive(folder).alive:
                raise _busy(folder)
            gone = []
            for path in paths:
                if path.parent == folder.path:
                    gone.append(self._gone_path(run_id))
                    _rename(path, gone[-1])
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        self.touch()
        return len(gone)

    def sweep(self) -> None:
        """Delete what an interrupted create or delete left behind."""
        with exclusive(self._runs / LOCK):
            self._sweep()

    def touch(self) -> None:
        """Mark the runs folder as changed, so that every index compares its runs again."""
        with contextlib.suppress(OSError):
            os.utime(self._runs)

    def _gone_path(self, run_id: str) -> Path:
        """Return a new name for a folder that is to be deleted."""
        return self._runs / f"{GONE}{run_id}-{secrets.token_hex(2)}"

    def _write(self, folder: RunFolder, run: NewRun, record: Mapping[str, Any]) -> None:
        """Write the files into a staging folder, then rename it."""
        staged = RunFolder(self._runs / f"{STAGING}{folder.id}-{secrets.token_hex(2)}")
        try:
            staged.path.mkdir()
            write_json(staged.config, record)
            write_json(staged.preflight, run.report)
            write_json(staged.environment, _versions())
            if run.launch:
                write_json(staged.launch, run.launch)
            staged.path.rename(folder.path)
        except OSError as error:
            raise disk_error(error, folder.path) from error
        finally:
            shutil.rmtree(staged.path, ignore_errors=True)

    def _new_id(self, now: float) -> str:
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
        while True:
            run_id = f"{stamp}-{secrets.token_hex(2)}"
            if not (self._runs / run_id).exists():
                return run_id

    def _find(self, run_id: str) -> RunFolder | None:
        if not is_id(run_id):
            return None
        folder = RunFolder(self._runs / run_id)
        is_run = folder.config.is_file() and not folder.path.is_symlink()
        return folder if is_run else None

    def records(self) -> dict[str, dict[str, Any]]:
        """Return config.json of every run by id; reads only changed files."""
        with self._records_lock:
            fresh: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
            for folder in run_folders(self._runs):
                try:
                    stat = folder.config.stat()
                except OSError:
                    continue
                mark = (stat.st_mtime_ns, stat.st_size)
                known = self._records.get(folder.id)
                if known and known[0] == mark:
                    fresh[folder.id] = known
                elif (record := find_json(folder.config)) is not None:
                    fresh[folder.id] = (mark, record)
            self._records = fresh
            return {run_id: record for run_id, (_mark, record) in fresh.items()}

    def _sweep(self) -> None:
        for prefix in (STAGING, GONE):
            for path in self._runs.glob(f"{prefix}*"):
                try:
                    stale = time.time() - path.stat().st_mtime > STALE_S
                except OSError:
                    continue
                if stale:
                    shutil.rmtree(path, ignore_errors=True)


def run_folders(runs: Path) -> Iterator[RunFolder]:
    """Yield the runs in a folder, oldest first."""
    try:
        paths = sorted(runs.iterdir())
    except OSError:
        return
    for path in paths:
        if is_id(path.name) and path.is_dir():
            yield RunFolder(path)


def is_id(name: str) -> bool:
    """Return whether a folder with this name may be a run; paths and staging folders are not."""
    return ID.fullmatch(name) is not None and ".." not in name


def _require_inactive(folder: RunFolder) -> RunFacts:
    """Return the facts of a run; raises BusyError while it is active."""
    facts = read_facts(folder)
    if facts.state.is_active:
        raise _busy(folder)
    return facts


def _rename(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        raise disk_error(error, path) from error


def _busy(folder: RunFolder) -> BusyError:
    return BusyError(Problem("run", f"{folder.id} is still running.", "Stop it first."), folder.id)


def _created(record: Mapping[str, Any]) -> float:
    created = record.get("created")
    return float(created) if isinstance(created, (int, float)) else 0.0


def package_versions(names: Iterable[str]) -> dict[str, str | None]:
    """Return the installed version of each package, None for those not installed."""
    return {name: installed_version(name) for name in names}


def _versions() -> dict[str, Any]:
    return {
        "modelforge": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": package_versions(PACKAGES),
    }
