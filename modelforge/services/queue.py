"""The queue's desk: runs are added and put in order, and the next one starts by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from modelforge.config.resolve import Layer
from modelforge.errors import BusyError, ForgeError, NotFoundError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json, read_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.queue import (
    Decision,
    Entry,
    Queue,
    Standing,
    next_due,
    read_queue,
    settle,
    write_queue,
)
from modelforge.runs.schedule_times import Clock, Moment, checked_time, in_words, read_time
from modelforge.runs.states import RunState
from modelforge.runs.store import Store
from modelforge.services.start import StartDesk

log = logging.getLogger(__name__)

TEND_EVERY_S = 1.0
When = float | str | None


class QueueDesk:
    """Keeps the queue of a home, which several servers share, and starts what is due.

    `chat_in_use` says in words whom this server talks with just now.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        supervisor: Supervisor,
        starts: StartDesk,
        *,
        chat_in_use: Callable[[], str],
        clock: Clock | None = None,
    ) -> None:
        self._path = home.queue
        self._store = store
        self._supervisor = supervisor
        self._starts = starts
        self._chat_in_use = chat_in_use
        self._waiting = Waiting(store, supervisor)
        self._clock = clock or Clock()
        self._tended = float("-inf")

    # What waits

    def listing(self) -> QueueView:
        """Return the queue in its order, and why nothing starts now."""
        queue, standings = self._look()
        moment = self._clock.look()
        busy = self._busy() if queue.order else ""
        decision = next_due(queue, standings, moment, busy)
        return self._waiting.view(queue, standings, decision, moment)

    def add(
        self,
        *layers: Layer,
        name: str | None = None,
        request_id: str | None = None,
        start_after: When = None,
        held: bool = False,
    ) -> str:
        """Make a run that waits for its turn and return its id; once for each `request_id`.

        Raises what `Forge.start` raises, save BusyError; then nothing has been made.
        """
        moment = self._clock.look()
        wanted = _time(start_after, moment)
        with self._starts.one_request(request_id):
            if known := self._starts.known(request_id):
                return known.id
            order = self._starts.prepare(*layers, name=name, idle=True)
            with self._supervisor.claim():
                if known := self._starts.known(request_id):
                    return known.id

                def announce(run: str) -> None:
                    said = moment.now if wanted is not None else None
                    entry = Entry(run, held=held, start_after=wanted, said=said)
                    self._write(self._look()[0].with_entry(entry))

                return self._starts.create(order, request_id, announce).id

    def add_again(self, run_id: str, *, start_after: When = None, held: bool = False) -> None:
        """Let a run that has stopped, failed or been lost wait for its turn to go on."""
        moment = self._clock.look()
        wanted = _time(start_after, moment)
        folder = self._store.get(run_id)
        with self._supervisor.claim():
            standing = self._waiting.standing(folder)
            goes_on = standing.state.is_over and standing.state is not RunState.FINISHED
            if not goes_on or standing.launched is None:
                what = f"{standing.name} is {standing.state}, so there is nothing to go on with."
                raise NotFoundError(Problem("run", what, "Queue one that stopped or failed."))
            said = moment.now if wanted is not None else None
            entry = Entry(run_id, held, "", wanted, said, standing.launched)
            self._write(self._look()[0].with_entry(entry))

    # What people change

    def move(self, run_id: str, position: int) -> None:
        """Put a run at a position from 1; beyond the end is the end. Raises NotFoundError."""
        self._change(run_id, lambda queue: queue.moved(run_id, position))

    def hold(self, run_id: str | None = None) -> None:
        """Hold one run, or the whole queue: nothing of it starts until it is released."""
        if run_id is None:
            self._change(None, lambda queue: replace(queue, held=True, why_held=""))
        else:
            self._change(run_id, lambda queue: queue.changed(run_id, held=True, why_held=""))

    def release(self, run_id: str | None = None) -> None:
        """Release one run, or the whole queue, also when it stopped after a failure."""
        if run_id is None:
            self._change(None, lambda queue: replace(queue, held=False, why_held="", last=None))
        else:
            self._change(run_id, lambda queue: queue.changed(run_id, held=False, why_held=""))

    def start_after(self, run_id: str, when: When) -> None:
        """Let a run wait until a time, or with None no longer; raises ConfigError."""
        moment = self._clock.look()
        wanted = _time(when, moment)
        said = moment.now if wanted is not None else None
        self._change(run_id, lambda queue: queue.changed(run_id, start_after=wanted, said=said))

    def settings(self, *, go_on_after_failure: bool) -> None:
        """Say whether the queue goes on when one of its runs has failed."""
        self._change(None, lambda queue: replace(queue, go_on_after_failure=go_on_after_failure))

    def remove(self, run_id: str) -> None:
        """Take a run out of the queue; one that was never started is deleted."""
        self._change(run_id, lambda queue: queue.without(run_id))
        with self._supervisor.claim():
            folder = self._store.get(run_id)
            if self._supervisor.state(folder) is RunState.QUEUED:
                self._store.delete(run_id)

    # What happens by itself

    def tend(self) -> None:
        """Start what is due, looking once a second at most."""
        now = time.monotonic()
        if now - self._tended >= TEND_EVERY_S:
            self._tended = now
            self.start_next()

    def start_next(self) -> str | None:
        """Start the next run that is due and return its id; None when nothing can start now.

        A run that cannot be started is held with the reason, and the next one gets its turn.
        """
        while True:
            decision = self._decide()
            if decision.run is None:
                return None
            folder = self._store.get(decision.run)
            # Looked at before the lock is taken: data and model may take a while.
            refusal = self._refusal(folder)
            with self._supervisor.claim():
                if self._decide().run != folder.id:
                    continue
                try:
                    if refusal is None:
                        self._launch(folder)
                        return folder.id
                except BusyError:
                    return None
                except ForgeError as error:
                    refusal = error
                self._put_aside(folder, refusal)

    def _decide(self) -> Decision:
        queue, standings = self._look()
        if not queue.order:
            return Decision(code="empty")
        return next_due(queue, standings, self._clock.look(), self._busy())

    def _refusal(self, folder: RunFolder) -> ForgeError | None:
        """Return why a run cannot start as things are now, or None: the check of its start anew."""
        try:
            said = read_json(folder.config).get("config")
            if not isinstance(said, dict):
                what = f"The record of {folder.id} is damaged."
                raise RunError(Problem("run", what, "It can only be removed."))
            self._starts.prepare(Layer("run", said))
        except ForgeError as error:
            return error
        return None

    def _launch(self, folder: RunFolder) -> None:
        queue, _standings = self._look()
        entry = queue.find(folder.id)
        self._starts.launch(folder, again=entry is not None and entry.resumes is not None)
        self._write(replace(queue.without(folder.id), last=folder.id))

    def _put_aside(self, folder: RunFolder, error: ForgeError) -> None:
        why = str(error.problems[0])
        log.warning("%s waits: %s", folder.id, why)
        queue, _standings = self._look()
        self._write(queue.changed(folder.id, held=True, why_held=why))

    def _busy(self) -> str:
        """Return who holds the machine, in words; empty when it is free."""
        try:
            self._starts.require_free()
        except BusyError as error:
            return error.problems[0].sentence
        return self._chat_in_use()

    def _change(self, run_id: str | None, change: Callable[[Queue], Queue]) -> None:
        with self._supervisor.claim():
            queue, _standings = self._look()
            if run_id is not None and queue.find(run_id) is None:
                what = f"{run_id[:80]!r} does not wait in the queue."
                remedy = "`modelforge queue list` shows the runs that do."
                raise NotFoundError(Problem("run", what, remedy))
            self._write(change(queue))

    def _look(self) -> tuple[Queue, dict[str, Standing]]:
        """Return the queue as the runs are now, and what is known of each that it speaks of."""
        queue = read_queue(self._path)
        standings = self._waiting.standings(queue)
        return settle(queue, standings), standings

    def _write(self, queue: Queue) -> None:
        write_queue(self._path, queue)


def _time(said: When, moment: Moment) -> float | None:
    """Return the time that somebody means: a Unix time, or words; raises ConfigError."""
    if said is None or said == "":
        return None
    if isinstance(said, str):
        return read_time(said, moment.now)
    return checked_time(said, moment.now)


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
