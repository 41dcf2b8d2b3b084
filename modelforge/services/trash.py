"""Delete runs so that they can be restored, and empty the trash."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelforge.errors import BusyError, NotFoundError, Problem
from modelforge.paths import Home
from modelforge.runs.layout import RunFolder
from modelforge.runs.notes import run_name
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.run_uses import unfinished_jobs
from modelforge.runs.scheduling.queue import read_queue
from modelforge.runs.states import RunState
from modelforge.runs.store import Store
from modelforge.runs.trash import DeletedRun, Trash
from modelforge.services.chat import ChatService

EXPIRE_INTERVAL_S = 3600.0
# Settings that name a run or a folder in one, and what their value is.
_REFERENCES = (
    ("model_name", "was trained on its model"),
    ("adapter.start_from", "starts from its adapter"),
    ("trainer.reward_model", "uses its reward model"),
)


class TrashService:
    """Delete, restore and finally remove runs. Thread-safe."""

    def __init__(self, home: Home, store: Store, supervisor: Supervisor, chat: ChatService) -> None:
        self._home = home
        self._store = store
        self._supervisor = supervisor
        self._chat = chat
        self._trash = Trash(home, store)
        self._expired = float("-inf")

    def delete(self, run_ids: Sequence[str]) -> None:
        """Move runs into the trash, from which `restore` takes them; all of them or none.

        Raises NotFoundError, and BusyError with every run that is in progress, waits in the queue
        or is needed by another run.
        """
        folders = [self._store.get(run_id) for run_id in dict.fromkeys(run_ids)]
        with self._supervisor.claim():
            refused = {folder.id: why for folder in folders if (why := self._why_needed(folder))}
            for other, folder, how in self._dependents(folders):
                why = Problem(
                    run_name(folder),
                    f"“{run_name(folder)}” cannot be deleted: “{run_name(other)}” {how}.",
                    f"Delete “{run_name(other)}” as well.",
                )
                refused.setdefault(folder.id, why)
            if refused:
                raise BusyError(list(refused.values()), next(iter(refused)))
            for folder in folders:
                self._chat.unload(str(folder.output))
                self._trash.put(folder.id)

    def restore(self, run_ids: Sequence[str]) -> None:
        """Take deleted runs out of the trash; raises NotFoundError for one that is not there."""
        known = {run.id for run in self._trash.runs()}
        gone = [run_id for run_id in run_ids if run_id not in known]
        if gone:
            what = f"There is no deleted run {gone[0][:80]!r}."
            remedy = "Deleted runs are removed after a week, or when the trash is emptied."
            raise NotFoundError(Problem("run", what, remedy))
        with self._supervisor.claim():
            for run_id in dict.fromkeys(run_ids):
                self._trash.restore(run_id)
        self._store.touch()

    def runs(self) -> list[DeletedRun]:
        """Return the deleted runs, the newest deletion first."""
        return self._trash.runs()

    def empty(self) -> int:
        """Remove all deleted runs for good, and return their bytes."""
        runs = self._trash.runs()
        for run in runs:
            self._trash.remove(run.id)
        return sum(run.bytes for run in runs) - sum(run.bytes for run in self._trash.runs())

    def tend(self) -> None:
        """Remove expired runs, at the start of the server and every hour."""
        now = time.monotonic()
        if now - self._expired > EXPIRE_INTERVAL_S:
            self._expired = now
            self._trash.expire()

    def _why_needed(self, folder: RunFolder) -> Problem | None:
        """Return why a run itself cannot be deleted now, or None."""
        title, state = run_name(folder), self._supervisor.state(folder)
        if state.is_active:
            what = f"“{title}” is in progress, so it cannot be deleted."
            return Problem(title, what, "Stop it first.")
        queue = read_queue(self._home.queue)
        if state is RunState.QUEUED or queue.find(folder.id) is not None:
            what = f"“{title}” waits in the queue, so it cannot be deleted."
            return Problem(title, what, "Remove it from the queue.")
        for job, record in unfinished_jobs(self._home):
            if record.request.uses(folder.id):
                what = f"“{title}” is being {job.DONE}, so it cannot be deleted."
                return Problem(title, what, f"Wait until the {job.NOUN} is done, or stop it.")
        return None

    def _dependents(
        self, folders: Sequence[RunFolder]
    ) -> Iterator[tuple[RunFolder, RunFolder, str]]:
        """Yield each run that needs one of the runs and is not one of them, and how it does."""
        by_id = {folder.id: folder for folder in folders}
        for run_id, record in self._store.records().items():
            config = record.get("config")
            if run_id in by_id or not isinstance(config, dict):
                continue
            for setting, how in _REFERENCES:
                found = [by_id[part] for part in _parts(config, setting) if part in by_id]
                if not found:
                    continue
                other = RunFolder(found[0].path.with_name(run_id))
                # A finished run has an adapter of its own, but no copy of its base model.
                if setting == "model_name" or self._supervisor.state(other) != RunState.FINISHED:
                    yield other, found[0], how


def _parts(config: Mapping[str, Any], setting: str) -> list[str]:
    """Return the parts of a setting's value that is a run id or a path."""
    value: Any = config
    for key in setting.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return re.split(r"[\\/]", value) if isinstance(value, str) else []
