"""Disk usage of the home, and what can be deleted to free space."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.errors import ConfigError, Problem
from modelforge.paths import Home
from modelforge.runs.disk_usage import LEFTOVERS, PARTS, RECORD, folder_bytes
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import RunRow
from modelforge.runs.store import GONE, STAGING, STALE_S, Store
from modelforge.runs.trash import DeletedRun
from modelforge.services.history import HistoryService
from modelforge.services.trash import TrashService

CACHE_S = 20.0
LISTED_RUNS = 20
DELETED = "deleted"
LOSES = {
    "checkpoints": "Finished runs keep their result, log and metrics, but cannot be continued.",
    LEFTOVERS: "Nothing: incomplete files of processes that have ended.",
    "caches": "Nothing: they are created again when needed.",
    DELETED: "The deleted runs can no longer be restored.",
}


@dataclass(frozen=True)
class StorageItem:
    """One kind of data in the home and its size; `parts` are its components in bytes."""

    kind: str
    bytes: int
    parts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Freeable:
    """Data that can be deleted: its size, and what is lost."""

    kind: str
    bytes: int
    loses: str
    runs: int = 0


@dataclass(frozen=True)
class StorageUsage:
    """Disk usage of the home folder, largest first. Sizes are bytes."""

    bytes: int
    disk_free: int
    kinds: Annotated[list[StorageItem], about("`kind`, `bytes` and, for runs, `parts`.")]
    freeable: Annotated[
        list[Freeable],
        about("What can be deleted: `kind`, `bytes`, what is lost (`loses`), `runs`."),
    ]
    runs: Annotated[list[dict[str, Any]], about("The largest runs with their parts.")]


class StorageService:
    """Measure disk usage and free space; data that an unfinished run needs is never deleted."""

    def __init__(
        self, home: Home, store: Store, history: HistoryService, trash: TrashService
    ) -> None:
        self._home = home
        self._store = store
        self._history = history
        self._trash = trash
        self._measured: tuple[float, dict[str, int]] = (-CACHE_S, {})

    def usage(self) -> StorageUsage:
        """Return the disk usage; sizes outside of runs are at most 20 seconds old."""
        rows, deleted = self._history.page().rows, self._trash.runs()
        parts: dict[str, int] = {}
        for row in rows:
            for part, held in row.sizes.items():
                parts[part] = parts.get(part, 0) + held
        others = self._other_sizes()
        swept = others.get(LEFTOVERS, 0)
        if swept:
            parts[LEFTOVERS] = parts.get(LEFTOVERS, 0) + swept
        kinds = [StorageItem("runs", sum(parts.values()), _largest_first(parts))]
        kinds += [
            StorageItem(kind, held) for kind, held in others.items() if held and kind != LEFTOVERS
        ]
        if deleted:
            kinds.append(StorageItem(DELETED, sum(run.bytes for run in deleted)))
        kinds.sort(key=lambda kind: kind.bytes, reverse=True)
        largest = sorted(rows, key=lambda row: row.bytes, reverse=True)[:LISTED_RUNS]
        return StorageUsage(
            bytes=sum(kind.bytes for kind in kinds),
            disk_free=shutil.disk_usage(self._home.root).free,
            kinds=kinds,
            freeable=_freeable(rows, others, deleted),
            runs=[_run_entry(row) for row in largest if row.bytes],
        )

    def free(self, kind: str, run_id: str | None = None) -> int:
        """Delete data of a kind, in all runs or in one; return the bytes freed.

        Raises ConfigError for an unknown kind or a run that is not finished, NotFoundError and
        BusyError.
        """
        if kind not in LOSES:
            what = f"{kind[:40]!r} cannot be freed."
            raise ConfigError(Problem("kind", what, f"Use {', '.join(LOSES)}."))
        self._measured = (-CACHE_S, {})
        if kind == "caches":
            return self._delete_caches()
        if kind == DELETED:
            return self._trash.empty()
        rows = self._history.page().rows
        if run_id is not None:
            folder = self._store.get(run_id)
            rows = [row for row in rows if row.id == folder.id]
            if kind == "checkpoints" and not all(_can_lose(row, kind) for row in rows):
                what = f"{folder.id} is not finished: it may resume from its checkpoints."
                remedy = "Delete the whole run if it is not needed."
                raise ConfigError(Problem("run", what, remedy))
        freed = sum(self._delete_parts(row, kind) for row in rows)
        return freed + (self._sweep() if kind == LEFTOVERS and run_id is None else 0)

    def _delete_parts(self, row: RunRow, kind: str) -> int:
        """Delete the data of a kind of one run, unless the run has been resumed."""
        if not _can_lose(row, kind):
            return 0
        folder = RunFolder(self._home.runs / row.id)
        paths = [folder.checkpoints] if kind == "checkpoints" else _incomplete(folder)
        paths = [path for path in paths if path.is_dir()]
        held = sum(folder_bytes(path) for path in paths)
        if paths:
            self._store.delete_parts(row.id, paths)
        return held

    def _sweep(self) -> int:
        before = sum(folder_bytes(path) for path in self._stale_staging())
        self._store.sweep()
        return before - sum(folder_bytes(path) for path in self._stale_staging())

    def _stale_staging(self) -> list[Path]:
        found = [path for start in (STAGING, GONE) for path in self._home.runs.glob(f"{start}*")]
        return [path for path in found if _age_s(path) > STALE_S]

    def _delete_caches(self) -> int:
        held = folder_bytes(self._home.cache)
        shutil.rmtree(self._home.cache, ignore_errors=True)
        return held - folder_bytes(self._home.cache)

    def _other_sizes(self) -> dict[str, int]:
        """Return the size of everything except runs, by kind."""
        taken, known = self._measured
        if time.monotonic() - taken < CACHE_S:
            return dict(known)
        root = self._home.root
        named = {
            "models": [root / "models"],
            "data": [self._home.uploads, self._home.datasets],
            "exports": [self._home.exports],
            "evaluations": [self._home.evaluations],
            "caches": [self._home.cache],
            "logs": [self._home.logs],
        }
        known = {kind: sum(map(folder_bytes, paths)) for kind, paths in named.items()}
        ours = {path.name for paths in named.values() for path in paths} | {"runs"}
        known["other"] = sum(_size(path) for path in _children(root) if path.name not in ours)
        known[LEFTOVERS] = sum(folder_bytes(path) for path in self._stale_staging())
        self._measured = (time.monotonic(), known)
        return dict(known)


def _freeable(
    rows: list[RunRow], others: dict[str, int], deleted: list[DeletedRun]
) -> list[Freeable]:
    found = []
    for kind, loses in LOSES.items():
        sizes = [row.sizes[kind] for row in rows if _can_lose(row, kind) and row.sizes.get(kind)]
        if kind == DELETED:
            sizes = [run.bytes for run in deleted]
        held = sum(sizes) + others.get(kind, 0)
        if held:
            found.append(Freeable(kind, held, loses, len(sizes)))
    return found


def _can_lose(row: RunRow, kind: str) -> bool:
    """Return whether a run needs no data of a kind; a finished one with a result no checkpoints."""
    if kind == "checkpoints":
        return row.state == "finished" and row.has_result
    return row.state.is_over


def _run_entry(row: RunRow) -> dict[str, Any]:
    parts = _largest_first(row.sizes)
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "bytes": row.bytes,
        "parts": parts,
        "may_shed": _can_lose(row, "checkpoints") and "checkpoints" in parts,
    }


def _largest_first(parts: dict[str, int]) -> dict[str, int]:
    assert parts.keys() <= {*PARTS, RECORD, LEFTOVERS}, parts
    return dict(sorted(parts.items(), key=lambda part: part[1], reverse=True))


def _incomplete(folder: RunFolder) -> list[Path]:
    return [path for path in _children(folder.path) if path.name.startswith(".")]


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return folder_bytes(path)
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def _age_s(path: Path) -> float:
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime
    return 0.0
