"""What the home takes on the disk, what of it can go, and what is lost with it."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelforge.errors import ConfigError, Problem
from modelforge.paths import Home
from modelforge.runs.disk_usage import LEFTOVERS, PARTS, RECORD, folder_bytes
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import Row
from modelforge.runs.store import GONE, STAGING, STALE_S, Store
from modelforge.services.history import HistoryService

FRESH_S = 20.0
SHOWN_RUNS = 20
KINDS = ("checkpoints", "leftovers", "caches")
LOSES = {
    "checkpoints": "Finished runs keep their result, log and numbers. "
    "They cannot go on from their last update any more.",
    "leftovers": "Nothing: these are parts that were being made when their maker ended.",
    "caches": "Nothing but time: they are made again when they are needed.",
}


@dataclass(frozen=True)
class StorageItem:
    """One kind of thing in the home and its bytes; `parts` says what they consist of."""

    kind: str
    bytes: int
    parts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Freeable:
    """What can go: how much, and what is lost with it."""

    kind: str
    bytes: int
    loses: str
    runs: int = 0


@dataclass(frozen=True)
class StorageUsage:
    """The home on the disk, biggest kind first; `runs` are the biggest ones."""

    bytes: int
    disk_free: int
    kinds: list[StorageItem]
    freeable: list[Freeable]
    runs: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return it as REST gives it."""
        return asdict(self)


class StorageService:
    """Measures the home and frees parts of it. Never touches what an unfinished run needs."""

    def __init__(self, home: Home, store: Store, history: HistoryService) -> None:
        self._home = home
        self._store = store
        self._history = history
        self._measured: tuple[float, dict[str, int]] = (-FRESH_S, {})

    def usage(self) -> StorageUsage:
        """Return what lies in the home; folders beside the runs are at most 20 seconds old."""
        rows = self._history.page().rows
        parts: dict[str, int] = {}
        for row in rows:
            for part, held in row.sizes.items():
                parts[part] = parts.get(part, 0) + held
        beside = self._beside()
        swept = beside.pop(LEFTOVERS, 0)
        if swept:
            parts[LEFTOVERS] = parts.get(LEFTOVERS, 0) + swept
        kinds = [StorageItem("runs", sum(parts.values()), _biggest_first(parts))]
        kinds += [StorageItem(kind, held) for kind, held in beside.items() if held]
        kinds.sort(key=lambda kind: kind.bytes, reverse=True)
        largest = sorted(rows, key=lambda row: row.bytes, reverse=True)[:SHOWN_RUNS]
        return StorageUsage(
            bytes=sum(kind.bytes for kind in kinds),
            disk_free=shutil.disk_usage(self._home.root).free,
            kinds=kinds,
            freeable=self._freeable(rows, beside, swept),
            runs=[_as_line(row) for row in largest if row.bytes],
        )

    def free(self, kind: str, run_id: str | None = None) -> int:
        """Free what is of a kind, in every run or in one; return the bytes that are free now.

        Raises ConfigError for a kind that is none or a run that is not finished, NotFoundError
        and BusyError.
        """
        if kind not in KINDS:
            what = f"{kind[:40]!r} cannot be freed."
            raise ConfigError(Problem("kind", what, f"Use {', '.join(KINDS)}."))
        self._measured = (-FRESH_S, {})
        if kind == "caches":
            return self._free_caches()
        rows = self._history.page().rows
        if run_id is not None:
            folder = self._store.get(run_id)
            rows = [row for row in rows if row.id == folder.id]
            if kind == "checkpoints" and not all(_may_shed(row) for row in rows):
                what = f"{folder.id} is not finished: it may go on from its checkpoints."
                remedy = "Delete the run if nothing of it is needed."
                raise ConfigError(Problem("run", what, remedy))
        freed = sum(self._shed(row, kind) for row in rows)
        return freed + (self._sweep() if kind == "leftovers" and run_id is None else 0)

    def _freeable(self, rows: list[Row], beside: dict[str, int], swept: int) -> list[Freeable]:
        done = [row for row in rows if _may_shed(row) and row.sizes.get("checkpoints")]
        torn = [row for row in rows if row.is_over and row.sizes.get(LEFTOVERS)]
        found = (
            Freeable(
                "checkpoints",
                sum(row.sizes["checkpoints"] for row in done),
                LOSES["checkpoints"],
                len(done),
            ),
            Freeable(
                LEFTOVERS,
                sum(row.sizes[LEFTOVERS] for row in torn) + swept,
                LOSES[LEFTOVERS],
                len(torn),
            ),
            Freeable("caches", beside.get("caches", 0), LOSES["caches"]),
        )
        return [one for one in found if one.bytes]

    def _shed(self, row: Row, kind: str) -> int:
        """Take the parts of a kind out of one run; one that has begun to go on is left alone."""
        folder = RunFolder(self._home.runs / row.id)
        if kind == "checkpoints":
            paths = [folder.checkpoints] if _may_shed(row) and folder.checkpoints.is_dir() else []
        else:
            paths = _torn(folder) if row.is_over else []
        if not paths:
            return 0
        held = sum(folder_bytes(path) for path in paths)
        self._store.shed(row.id, paths)
        return held

    def _sweep(self) -> int:
        before = sum(folder_bytes(path) for path in self._swept())
        self._store.sweep()
        return before - sum(folder_bytes(path) for path in self._swept())

    def _swept(self) -> list[Path]:
        found = [path for start in (STAGING, GONE) for path in self._home.runs.glob(f"{start}*")]
        return [path for path in found if _age_s(path) > STALE_S]

    def _free_caches(self) -> int:
        held = folder_bytes(self._home.cache)
        shutil.rmtree(self._home.cache, ignore_errors=True)
        return held - folder_bytes(self._home.cache)

    def _beside(self) -> dict[str, int]:
        """Return the bytes of what is no run, by kind."""
        taken, known = self._measured
        if time.monotonic() - taken < FRESH_S:
            return dict(known)
        root = self._home.root
        named = {
            "models": [root / "models"],
            "data": [self._home.uploads, self._home.datasets],
            "caches": [self._home.cache],
            "logs": [self._home.logs],
        }
        known = {kind: sum(map(folder_bytes, paths)) for kind, paths in named.items()}
        ours = {path.name for paths in named.values() for path in paths} | {"runs"}
        known["other"] = sum(_bytes(path) for path in _inside(root) if path.name not in ours)
        known[LEFTOVERS] = sum(folder_bytes(path) for path in self._swept())
        self._measured = (time.monotonic(), known)
        return dict(known)


def _may_shed(row: Row) -> bool:
    """Say whether a run can do without checkpoints: only one that is finished and left a result."""
    return row.state == "finished" and row.has_result


def _as_line(row: Row) -> dict[str, Any]:
    parts = _biggest_first(row.sizes)
    about = {"id": row.id, "name": row.name, "state": row.state, "bytes": row.bytes}
    return {**about, "parts": parts, "may_shed": _may_shed(row) and "checkpoints" in parts}


def _biggest_first(parts: dict[str, int]) -> dict[str, int]:
    assert parts.keys() <= {*PARTS, RECORD, LEFTOVERS}, parts
    return dict(sorted(parts.items(), key=lambda part: part[1], reverse=True))


def _torn(folder: RunFolder) -> list[Path]:
    return [path for path in _inside(folder.path) if path.name.startswith(".") and path.is_dir()]


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _bytes(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return folder_bytes(path)
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def _age_s(path: Path) -> float:
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime
    return 0.0
