"""The runs that wait, as people see them: what is known of each, and the queue with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from modelforge.runs.layout import RunFolder, find_json
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.queue import Decision, Entry, Queue, Standing
from modelforge.runs.schedule_times import Moment, in_words
from modelforge.runs.store import Store


@dataclass(frozen=True)
class QueuedRun:
    """One run that waits, as people see it. `when` is its time in words."""

    run: str
    name: str
    position: int
    held: bool
    why_held: str
    start_after: float | None
    when: str
    created: float
    resumes: bool
    model_name: str
    dataset: str


@dataclass(frozen=True)
class QueueView:
    """The queue as it stands: its order, its settings, and why nothing starts now."""

    held: bool
    go_on_after_failure: bool
    code: str
    why: str
    runs: list[QueuedRun]

    def as_dict(self) -> dict[str, Any]:
        """Return the queue as plain data, as REST and `--json` give it."""
        return asdict(self)


class Waiting:
    """Reads what the runs of a home say of themselves."""

    def __init__(self, store: Store, supervisor: Supervisor) -> None:
        self._store = store
        self._supervisor = supervisor

    def standing(self, folder: RunFolder) -> Standing:
        """Return what is known of one run."""
        record, process = find_json(folder.config) or {}, find_json(folder.process) or {}
        created, launched = record.get("created"), process.get("launched")
        return Standing(
            folder.id,
            str(record.get("name") or folder.id),
            self._supervisor.state(folder),
            created if isinstance(created, float) else 0.0,
            launched if isinstance(launched, float) else None,
        )

    def standings(self, queue: Queue) -> dict[str, Standing]:
        """Return what is known of each run that waits, and of those that the queue speaks of."""
        folders = {folder.id: folder for folder in self._supervisor.queued()}
        for named in (queue.last, *(entry.run for entry in queue.order)):
            if named is not None and self._store.exists(named):
                folders.setdefault(named, self._store.get(named))
        # A folder without a record is no run, and nothing that could be started.
        there = {run: folder for run, folder in folders.items() if self._store.exists(run)}
        return {run: self.standing(folder) for run, folder in there.items()}

    def view(
        self,
        queue: Queue,
        standings: Mapping[str, Standing],
        decision: Decision,
        moment: Moment,
    ) -> QueueView:
        """Return the queue as people see it."""
        runs = [
            self._queued(entry, place, standings[entry.run], moment)
            for place, entry in enumerate(queue.order, start=1)
        ]
        on = queue.go_on_after_failure
        return QueueView(queue.held, on, decision.code, decision.why, runs)

    def _queued(self, entry: Entry, position: int, standing: Standing, moment: Moment) -> QueuedRun:
        said = (find_json(self._store.get(entry.run).config) or {}).get("config")
        config = said if isinstance(said, dict) else {}
        waits = entry.start_after is not None and not entry.is_due(moment)
        return QueuedRun(
            run=entry.run,
            name=standing.name,
            position=position,
            held=entry.held,
            why_held=entry.why_held,
            start_after=entry.start_after,
            when=in_words(entry.start_after or 0.0, moment.now) if waits else "",
            created=standing.created,
            resumes=entry.resumes is not None,
            model_name=str(config.get("model_name", "")),
            dataset=str(config.get("dataset", "")),
        )
