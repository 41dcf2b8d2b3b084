"""How a worker that was asked to stop comes to its end: by itself, by a signal, by force."""

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

# With nothing to keep, and after a signal, there is less to wait for.
SHORT_PATIENCE_S = 10.0
# Saving a large model to a slow disk takes a while; it is what was asked for.
SAVING_PATIENCES = 10
KILLED_S = 5.0


class StopEnforcer:
    """Sees stops through. A worker has `patience_s` to obey, more while it saves."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._under_way: dict[str, threading.Thread] = {}
        self._turn = threading.Lock()

    def see_to(self, folder: RunFolder, who: ProcessIdentity) -> None:
        """Wait in a thread until the worker has obeyed, and end it after its patience if not."""
        with self._turn:
            busy = self._under_way.get(folder.id)
            if busy is not None and busy.is_alive():
                return
            thread = threading.Thread(
                target=self._bring_to_an_end, args=(folder, who), name="stop", daemon=True
            )
            self._under_way[folder.id] = thread
            thread.start()

    def _bring_to_an_end(self, folder: RunFolder, who: ProcessIdentity) -> None:
        members = identity.process_tree(who)
        if not self._obeys(folder, who):
            members += identity.terminate_tree(who)
            if not wait_ended(who, min(self._patience_s, SHORT_PATIENCE_S)):
                members += identity.kill_tree(who)
                wait_ended(who, KILLED_S)
        # Children that outlive their worker would hold memory with nobody to ask for it.
        identity.kill_processes(members)
        with self._turn:
            self._under_way.pop(folder.id, None)

    def _obeys(self, folder: RunFolder, who: ProcessIdentity) -> bool:
        """Wait until the worker has left, for as long as it is owed; return whether it has."""
        patience = self._patience_s
        if not _has_something_to_keep(folder):
            patience = min(patience, SHORT_PATIENCE_S)
        waited = age_s(folder.stop)
        begun = time.monotonic() - max(0.0, min(waited, patience))
        while not wait_ended(who, 0.2):
            spent = time.monotonic() - begun
            owed = patience * SAVING_PATIENCES if _is_saving(folder) else patience
            if spent >= owed:
                return False
        return True


def age_s(path: Path) -> float:
    """Return how long ago a file was written; 0 when it is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _has_something_to_keep(folder: RunFolder) -> bool:
    try:
        keep = folder.stop.read_text(encoding="utf-8") == "keep"
    except OSError:
        keep = True
    return keep and any(event.kind in ("step", "saved") for event in tail_events(folder.events))


def _is_saving(folder: RunFolder) -> bool:
    recent = tail_events(folder.events)
    return bool(recent) and recent[-1].kind == "phase" and recent[-1].data.get("name") == "saving"


class OrphanTracker:
    """Remembers the families of workers, since nobody can tell them once the worker is gone.

    psutil knows each member by its birth, so that a process id that was reused is left alone.
    """

    def __init__(self) -> None:
        self._families: dict[str, list[psutil.Process]] = {}

    def remember(self, run_id: str, who: ProcessIdentity) -> None:
        """Note who belongs to the worker of a run now."""
        family = identity.process_tree(who)
        if family:
            self._families[run_id] = family

    def end(self, alive: Collection[str]) -> None:
        """End what is left of the families whose worker is not among the living."""
        for run_id in [run_id for run_id in self._families if run_id not in alive]:
            identity.kill_processes(self._families.pop(run_id))
