"""Enforce stop requests, and end the children of workers that were killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from pathlib import Path

import psutil

from modelforge.runs.events import tail_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.process import identity
from modelforge.runs.process.identity import ProcessIdentity, wait_ended

# The timeout with nothing to save, and after a signal.
SHORT_TIMEOUT_S = 10.0
# While the worker saves, which may take long for a large model, the timeout is longer.
SAVING_FACTOR = 10
KILL_TIMEOUT_S = 5.0


class StopEnforcer:
    """End workers that do not stop within `timeout_s`, or longer while they save."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def enforce(self, folder: RunFolder, who: ProcessIdentity) -> None:
        """Wait in a thread for the worker to stop; end it after the timeout."""
        with self._lock:
            busy = self._threads.get(folder.id)
            if busy is not None and busy.is_alive():
                return
            thread = threading.Thread(
                target=self._enforce, args=(folder, who), name="stop", daemon=True
            )
            self._threads[folder.id] = thread
            thread.start()

    def _enforce(self, folder: RunFolder, who: ProcessIdentity) -> None:
        members = identity.process_tree(who)
        if not self._stops(folder, who):
            members += identity.terminate_tree(who)
            if not wait_ended(who, min(self._timeout_s, SHORT_TIMEOUT_S)):
                members += identity.kill_tree(who)
                wait_ended(who, KILL_TIMEOUT_S)
        # Children that outlive their worker would keep their memory.
        identity.kill_processes(members)
        with self._lock:
            self._threads.pop(folder.id, None)

    def _stops(self, folder: RunFolder, who: ProcessIdentity) -> bool:
        """Wait for the worker to end within its timeout; return whether it did."""
        patience = self._timeout_s
        if not _has_progress_to_save(folder):
            patience = min(patience, SHORT_TIMEOUT_S)
        waited = age_s(folder.stop)
        begun = time.monotonic() - max(0.0, min(waited, patience))
        while not wait_ended(who, 0.2):
            spent = time.monotonic() - begun
            owed = patience * SAVING_FACTOR if _is_saving(folder) else patience
            if spent >= owed:
                return False
        return True


def age_s(path: Path) -> float:
    """Return the age of a file; 0 if it does not exist."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _has_progress_to_save(folder: RunFolder) -> bool:
    try:
        keep = folder.stop.read_text(encoding="utf-8") == "keep"
    except OSError:
        keep = True
    return keep and any(event.kind in ("step", "saved") for event in tail_events(folder.events))


def _is_saving(folder: RunFolder) -> bool:
    recent = tail_events(folder.events)
    return bool(recent) and recent[-1].kind == "phase" and recent[-1].data.get("name") == "saving"


class OrphanTracker:
    """Remember the process trees of workers, which cannot be determined once a worker has ended.

    psutil identifies each process by its creation time, so reused pids are left alone.
    """

    def __init__(self) -> None:
        self._trees: dict[str, list[psutil.Process]] = {}

    def remember(self, run_id: str, who: ProcessIdentity) -> None:
        """Store the current process tree of the worker of a run."""
        tree = identity.process_tree(who)
        if tree:
            self._trees[run_id] = tree

    def end(self, alive: Collection[str]) -> None:
        """Kill the remaining processes of workers that are not `alive`."""
        for run_id in [run_id for run_id in self._trees if run_id not in alive]:
            identity.kill_processes(self._trees.pop(run_id, []))
