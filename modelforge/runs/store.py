"""Run folders: made whole or not at all, found, listed and deleted."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from modelforge import __version__
from modelforge.errors import BusyError, NotFoundError, Problem
from modelforge.paths import Home
from modelforge.runs.atomic_files import disk_error, find_json, write_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.notes import Notes, read_notes, updated_notes, write_notes
from modelforge.runs.process.identity import kill_tree, wait_ended
from modelforge.runs.process.lock import exclusive
from modelforge.runs.states import read_facts

FORMAT = 1
LOCK = ".start.lock"
STAGING, GONE = ".new-", ".gone-"
STALE_S = 600.0
KILLED_S = 5.0
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,78}[A-Za-z0-9]")
PACKAGES = [
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes"),
    *("tokenizers", "safetensors", "huggingface_hub", "unsloth", "gradio", "psutil"),
]


class RunIndex(Protocol):
    """What `Store` and `Supervisor` ask of an index of the runs; see `runs.index.Index`."""

    def find_request(self, request_id: str) -> str | None:
        """Return the id of the run that was created for this request, or None."""
        ...

    def unsettled(self, thorough: bool = False) -> list[RunFolder]:
        """Return the runs whose state may still change; `thorough` compares every folder."""
        ...


class Store:
    """The runs of a home. Several servers may use the same one."""

    def __init__(
        self, home: Home, *, runs: Path | None = None, index: RunIndex | None = None
    ) -> None:
        self._runs = runs or home.runs
        self._index = index
        self._cards: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._looking = threading.Lock()

    def create(  # noqa: PLR0913 - a run is made of that much, each by its name
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        origins: Mapping[str, str],
        plan: Mapping[str, Any],
        report: Mapping[str, Any],
        dataset: Mapping[str, Any],
        request_id: str | None = None,
        announce: Callable[[str], None] | None = None,
        trial_run: bool = False,
    ) -> RunFolder:
        """Make a run folder and return it; a `request_id` that is known gives the run it made.

        `announce` hears the id before anybody can see the run. Raises RunError, and leaves
        nothing, when the disk is full or writing is not allowed.
        """
        with exclusive(self._runs / LOCK):
            if request_id and (known := self.find_request(request_id)):
                return known
            self._sweep()
            now = time.time()
            run_id = self._new_id(now)
            if announce is not None:
                announce(run_id)
            record = {
                "format": FORMAT,
                "id": run_id,
                "name": name,
                "created": now,
                "request_id": request_id,
                "config": dict(config),
                "origins": dict(origins),
                "plan": dict(plan),
                "dataset": dict(dataset),
                **({"trial_run": True} if trial_run else {}),
            }
            return self._settle(RunFolder(self._runs / run_id), record, report)

    def exists(self, run_id: str) -> bool:
        """Return whether there is a run of that id."""
        return self._find(run_id) is not None

    def get(self, run_id: str) -> RunFolder:
        """Return the run of that id; raises NotFoundError, also for ids that are paths."""
        found = self._find(run_id)
        if found is None:
            problem = Problem(
                "run",
                f"There is no run {run_id[:80]!r}.",
                "The Runs page, or `modelforge runs list`, shows those that are there.",
            )
            raise NotFoundError(problem)
        return found

    def list(self) -> list[RunFolder]:
        """Return all runs, newest first. Reads one small file a run, and only once."""
        cards = self._read_cards()
        newest = sorted(cards.items(), key=lambda card: (_created(card[1]), card[0]), reverse=True)
        return [RunFolder(self._runs / run_id) for run_id, _card in newest]

    def find_request(self, request_id: str) -> RunFolder | None:
        """Return the run that was made for this request, or None."""
        if self._index is not None:
            found = self._index.find_request(request_id)
            return None if found is None else self._find(found)
        for run_id, card in self._read_cards().items():
            if card.get("request_id") == request_id:
                return RunFolder(self._runs / run_id)
        return None

    def delete(self, run_id: str) -> None:
        """Delete a run with everything it made; raises BusyError while a process works on it."""
        folder = self.get(run_id)
        with exclusive(self._runs / LOCK):
            self._end_work(folder)
            gone = self._runs / f"{GONE}{run_id}-{secrets.token_hex(2)}"
            try:
                # One rename, so that no half-deleted run is ever listed.
                folder.path.rename(gone)
                shutil.rmtree(gone)
            except OSError as error:
                raise disk_error(error, folder.path) from error

    def annotate(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        note: str | None = None,
    ) -> Notes:
        """Write down what people say of a run; None leaves a part as it is.

        Raises ConfigError with everything that is too long or too many.
        """
        folder = self.get(run_id)
        with exclusive(self._runs / LOCK):
            notes = updated_notes(read_notes(folder), name=name, tags=tags, note=note)
            write_notes(folder, notes)
        self.touch()
        return notes

    def delete_parts(self, run_id: str, paths: Iterable[Path]) -> int:
        """Delete parts of a run that nobody works on; return how many there were.

        Raises BusyError while a process works on it.
        """
        folder = self.get(run_id)
        with exclusive(self._runs / LOCK):
            facts = read_facts(folder)
            if facts.alive or facts.state.is_active:
                problem = Problem("run", f"{folder.id} is still going on.", "Stop it first.")
                raise BusyError(problem, folder.id)
            gone = [self._set_aside(path) for path in paths if path.parent == folder.path]
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        self.touch()
        return len(gone)

    def sweep(self) -> None:
        """Remove what a server that died in the middle of create or delete has left."""
        with exclusive(self._runs / LOCK):
            self._sweep()

    def touch(self) -> None:
        """Let every list of runs know that something in one of them has changed."""
        with contextlib.suppress(OSError):
            os.utime(self._runs)

    def _set_aside(self, path: Path) -> Path:
        """Take a part out of its run in one step, so that nobody finds half of it."""
        gone = self._runs / f"{GONE}{path.parent.name}-{secrets.token_hex(2)}"
        try:
            path.rename(gone)
        except OSError as error:
            raise disk_error(error, path) from error
        return gone

    def _end_work(self, folder: RunFolder) -> None:
        facts = read_facts(folder)
        if facts.state.is_active:
            problem = Problem("run", f"{folder.id} is still going on.", "Stop it first.")
            raise BusyError(problem, folder.id)
        if facts.alive and facts.process is not None:
            kill_tree(facts.process)
            wait_ended(facts.process, KILLED_S)

    def _settle(
        self, folder: RunFolder, record: Mapping[str, Any], report: Mapping[str, Any]
    ) -> RunFolder:
        staged = RunFolder(self._runs / f"{STAGING}{folder.id}-{secrets.token_hex(2)}")
        try:
            staged.path.mkdir()
            write_json(staged.config, record)
            write_json(staged.preflight, report)
            write_json(staged.environment, _versions())
            staged.path.rename(folder.path)
        except OSError as error:
            raise disk_error(error, folder.path) from error
        finally:
            shutil.rmtree(staged.path, ignore_errors=True)
        return folder

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

    def _read_cards(self) -> dict[str, dict[str, Any]]:
        """Return what stands in each run's config.json, reading only what has changed."""
        with self._looking:
            fresh: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
            for folder in self._folders():
                try:
                    stat = folder.config.stat()
                except OSError:
                    continue
                mark = (stat.st_mtime_ns, stat.st_size)
                known = self._cards.get(folder.id)
                if known and known[0] == mark:
                    fresh[folder.id] = known
                elif (card := find_json(folder.config)) is not None:
                    fresh[folder.id] = (mark, card)
            self._cards = fresh
            return {run_id: card for run_id, (_mark, card) in fresh.items()}

    def _folders(self) -> Iterator[RunFolder]:
        try:
            entries = sorted(self._runs.iterdir())
        except OSError:
            return
        for path in entries:
            if is_id(path.name):
                yield RunFolder(path)

    def _sweep(self) -> None:
        """Remove what a server that died in the middle of create or delete has left."""
        for prefix in (STAGING, GONE):
            for path in self._runs.glob(f"{prefix}*"):
                try:
                    stale = time.time() - path.stat().st_mtime > STALE_S
                except OSError:
                    continue
                if stale:
                    shutil.rmtree(path, ignore_errors=True)


def is_id(name: str) -> bool:
    """Say whether a folder of that name may be a run: never a path, nor one that is being made."""
    return ID.fullmatch(name) is not None and ".." not in name


def _created(card: Mapping[str, Any]) -> float:
    created = card.get("created")
    return float(created) if isinstance(created, (int, float)) else 0.0


def package_versions(names: Iterable[str]) -> dict[str, str | None]:
    """Return the installed version of each package, None for those not installed."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _versions() -> dict[str, Any]:
    return {
        "modelforge": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": package_versions(PACKAGES),
    }
