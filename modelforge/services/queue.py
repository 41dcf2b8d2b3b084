"""The queue of runs: add, reorder and hold runs, and start the next one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from modelforge.config.resolve import Layer
from modelforge.config.schema.base import about
from modelforge.errors import BusyError, ForgeError, NotFoundError, Problem, RunError
from modelforge.paths import Home
from modelforge.runs.atomic_files import find_json, mtime_ns, read_json
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.launch import read_launch
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.scheduling.queue import (
    Decision,
    Queue,
    QueueEntry,
    WaitingRun,
    next_due,
    read_queue,
    reconcile,
    write_queue,
)
from modelforge.runs.scheduling.schedule_times import (
    Clock,
    ClockReading,
    format_time,
    parse_time,
    validate_time,
)
from modelforge.runs.states import RunState
from modelforge.runs.store import Store
from modelforge.services.start import RunLauncher

log = logging.getLogger(__name__)

TEND_INTERVAL_S = 1.0
StartTime = float | str | None


@dataclass(frozen=True)
class QueuedRun:
    """A queued run. Times are Unix seconds."""

    run: Annotated[str, about("The run's id.")]
    name: str
    position: Annotated[int, about("Its position in the queue, from 1.")]
    held: Annotated[bool, about("Whether it is held until released.")]
    why_held: Annotated[
        str, about("Why ModelForge held it, such as a failed start; otherwise empty.")
    ]
    start_after: Annotated[float | None, about("The earliest start time, or null.")]
    when: Annotated[
        str, about("The earliest start time as text while it is in the future; else empty.")
    ]
    created: float
    resumes: Annotated[bool, about("Whether it resumes from a checkpoint.")]
    model_name: str
    dataset: str
    strategy: str = "sft"
    target: Annotated[str, about("The target where it is to train; empty for this computer.")] = ""


@dataclass(frozen=True)
class QueueView:
    """The queue."""

    held: Annotated[bool, about("Whether the whole queue is held.")]
    go_on_after_failure: Annotated[bool, about("Whether the queue continues after a failed run.")]
    code: Annotated[
        str,
        about(
            "Why no run starts now: `empty`, `held`, `failure`, `busy`, `all-held` or `later`; "
            "empty if the next run is about to start."
        ),
    ]
    why: Annotated[str, about("The reason as a sentence.")]
    runs: Annotated[list[QueuedRun], about("The queued runs, the next one first.")]


class QueueService:
    """The queue of a home, which several servers share."""

    def __init__(
        self,
        home: Home,
        store: Store,
        supervisor: Supervisor,
        launcher: RunLauncher,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._path = home.queue
        self._store = store
        self._supervisor = supervisor
        self._launcher = launcher
        self._clock = clock or Clock()
        self._tended = float("-inf")
        # By id: the mtime of the record of a run, its name, and when it was created.
        self._names: dict[str, tuple[int, str, float]] = {}

    # Read and add

    def view(self) -> QueueView:
        """Return the queue in its order, and why nothing starts now."""
        queue, states = self._read()
        moment = self._clock.read()
        decision = self._decide(queue, states)
        runs = [
            self._queued_run(entry, position, states[entry.run], moment)
            for position, entry in enumerate(queue.order, start=1)
        ]
        code, why = decision.code, decision.why
        return QueueView(queue.held, queue.go_on_after_failure, code, why, runs)

    def add(
        self,
        *layers: Layer,
        name: str | None = None,
        request_id: str | None = None,
        start_after: StartTime = None,
        held: bool = False,
        plan_hash: str | None = None,
        metadata: Mapping[str, str] | None = None,
        on: str | None = None,
    ) -> str:
        """Create a queued run and return its id; the same `request_id` never creates a second one.

        `on` is the name of a target that is to train it. `metadata` is kept for the program that
        has made the request. Raises what `RunService.start` raises except BusyError; then nothing
        has been created.
        """
        when, set_at = self._start_time(start_after)

        def announce(run_id: str) -> None:
            entry = QueueEntry(run_id, held, "", when, set_at)
            self._write(self._read()[0].with_entry(entry))

        return self._launcher.create_once(
            request_id,
            lambda: self._launcher.prepare(
                *layers,
                name=name,
                request_id=request_id,
                idle=True,
                plan_hash=plan_hash,
                metadata=metadata,
                on=on,
            ),
            lambda run: self._store.create(run, announce),
        )

    def add_resume(
        self,
        run_id: str,
        *,
        start_after: StartTime = None,
        held: bool = False,
        on: str | None = None,
    ) -> None:
        """Queue the resume of a run that was stopped, failed or was lost.

        `on` is a target or `here`, by default where the run was. Raises NotFoundError.
        """
        when, set_at = self._start_time(start_after)
        folder = self._store.get(run_id)
        with self._launcher.claim():
            run = self._state_of(folder)
            can_resume = run.state.is_over and run.state is not RunState.FINISHED
            if not can_resume or run.launched is None:
                what = f"{run.name} is {run.state}, so it cannot be resumed."
                raise NotFoundError(Problem("run", what, "Queue a run that stopped or failed."))
            if on is not None:
                self._launcher.move(folder, on)
            entry = QueueEntry(run_id, held, "", when, set_at, run.launched)
            self._write(self._read()[0].with_entry(entry))

    # Change

    def move(self, run_id: str, position: int) -> None:
        """Move a run to a position from 1; beyond the end is the end. Raises NotFoundError."""
        self._change(run_id, lambda queue: queue.moved(run_id, position))

    def hold(self, run_id: str | None = None) -> None:
        """Hold one run, or the whole queue: it does not start until it is released."""
        if run_id is None:
            self._change(None, lambda queue: replace(queue, held=True, why_held=""))
        else:
            self._change(run_id, lambda queue: queue.changed(run_id, held=True, why_held=""))

    def release(self, run_id: str | None = None) -> None:
        """Release one run, or the whole queue, also after it was held by a failure."""
        if run_id is None:
            self._change(None, lambda queue: replace(queue, held=False, why_held="", last=None))
        else:
            self._change(run_id, lambda queue: queue.changed(run_id, held=False, why_held=""))

    def start_after(self, run_id: str, when: StartTime) -> None:
        """Set the earliest start time of a run; None removes it. Raises ConfigError."""
        start_after, set_at = self._start_time(when)
        self._change(
            run_id, lambda queue: queue.changed(run_id, start_after=start_after, set_at=set_at)
        )

    def settings(self, *, go_on_after_failure: bool) -> None:
        """Set whether the queue continues after one of its runs has failed."""
        self._change(None, lambda queue: replace(queue, go_on_after_failure=go_on_after_failure))

    def remove(self, run_id: str) -> None:
        """Remove a run from the queue; a run that was never started is deleted."""
        self._change(run_id, lambda queue: queue.without(run_id))
        with self._launcher.claim():
            folder = self._store.get(run_id)
            if self._supervisor.state(folder) is RunState.QUEUED:
                self._store.delete(run_id)

    # Start

    def tend(self) -> None:
        """Start the runs that are due, at most once a second, and for a second at most."""
        now = time.monotonic()
        if now - self._tended >= TEND_INTERVAL_S:
            self._tended = now
            while self.start_next() and time.monotonic() - now < TEND_INTERVAL_S:
                pass

    def start_next(self) -> str | None:
        """Start the next due run and return its id; None if nothing can start now.

        A run that cannot start is held with the reason, and the next one is tried.
        """
        while True:
            run_id = self._decide(*self._read()).run
            if run_id is None:
                return None
            folder = self._store.get(run_id)
            # Checked before the lock is taken, because loading model and data may take a while.
            refusal = self._check(folder)
            with self._launcher.claim():
                if self._decide(*self._read()).run != folder.id:
                    continue
                try:
                    if refusal is None:
                        self._launch(folder)
                        return folder.id
                except BusyError:
                    return None
                except ForgeError as error:
                    refusal = error
                self._hold_with_reason(folder, refusal)

    def _decide(self, queue: Queue, states: dict[str, WaitingRun]) -> Decision:
        busy = self._launcher.busy_reason() if queue.order else ""
        elsewhere = self._launcher.busy_targets() if queue.order else {}
        return next_due(queue, states, self._clock.read(), busy, elsewhere)

    def _check(self, folder: RunFolder) -> ForgeError | None:
        """Return why a run cannot start under the present conditions, or None."""
        try:
            config = read_json(folder.config).get("config")
            if not isinstance(config, dict):
                what = f"The record of {folder.id} is damaged."
                raise RunError(Problem("run", what, "It can only be removed."))
            launch = read_launch(folder.launch)
            on = launch.target.name if launch else None
            self._launcher.check(Layer("run", config), on=on)
        except ForgeError as error:
            return error
        return None

    def _launch(self, folder: RunFolder) -> None:
        """Start a run. The caller holds the claim and `_decide` has found its place free."""
        queue, _states = self._read()
        entry = queue.find(folder.id)
        self._launcher.launch(folder, again=entry is not None and entry.resumes is not None)
        self._write(replace(queue.without(folder.id), last=folder.id))

    def _hold_with_reason(self, folder: RunFolder, error: ForgeError) -> None:
        reason = str(error.problems[0])
        log.warning("%s is held: %s", folder.id, reason)
        queue, _states = self._read()
        self._write(queue.changed(folder.id, held=True, why_held=reason))

    def _start_time(self, value: StartTime) -> tuple[float | None, float | None]:
        """Return the Unix time of a value and that of now, or None twice; raises ConfigError."""
        now = self._clock.read().now
        if value is None or value == "":
            return None, None
        return parse_time(value, now) if isinstance(value, str) else validate_time(value, now), now

    # The file and the runs it names

    def _change(self, run_id: str | None, change: Callable[[Queue], Queue]) -> None:
        with self._launcher.claim():
            queue, _states = self._read()
            if run_id is not None and queue.find(run_id) is None:
                what = f"The run {run_id[:80]!r} is not in the queue."
                remedy = "`modelforge queue list` shows the queued runs."
                raise NotFoundError(Problem("run", what, remedy))
            self._write(change(queue))

    def _read(self) -> tuple[Queue, dict[str, WaitingRun]]:
        """Return the queue without runs that are gone or started, and the state of each run."""
        queue = read_queue(self._path)
        states = self._states(queue)
        return reconcile(queue, states), states

    def _write(self, queue: Queue) -> None:
        write_queue(self._path, queue)

    def _states(self, queue: Queue) -> dict[str, WaitingRun]:
        """Return the state of each run that was never started or is named by the queue."""
        folders = {folder.id: folder for folder in self._supervisor.queued()}
        for run_id in (queue.last, *(entry.run for entry in queue.order)):
            if run_id is not None and self._store.exists(run_id):
                folders.setdefault(run_id, self._store.get(run_id))
        # A folder without a record is not a run and cannot be started.
        present = {
            run_id: folder for run_id, folder in folders.items() if self._store.exists(run_id)
        }
        return {run_id: self._state_of(folder) for run_id, folder in present.items()}

    def _state_of(self, folder: RunFolder) -> WaitingRun:
        facts = self._supervisor.facts(folder)
        process = (find_json(folder.process) or {}) if facts.launched else {}
        launched = process.get("launched")
        name, created = self._name_and_time(folder)
        return WaitingRun(
            folder.id,
            name,
            facts.state,
            created,
            launched if isinstance(launched, float) else None,
            facts.launch.target.name if facts.launch else "",
        )

    def _name_and_time(self, folder: RunFolder) -> tuple[str, float]:
        """Return the name of a run, and when it was created; read again when its record changes."""
        mark = mtime_ns(folder.config)
        known = self._names.get(folder.id)
        if known is None or known[0] != mark:
            record = find_json(folder.config) or {}
            created = record.get("created")
            name = str(record.get("name") or folder.id)
            known = mark, name, created if isinstance(created, float) else 0.0
            self._names[folder.id] = known
        return known[1:]

    def _queued_run(
        self, entry: QueueEntry, position: int, run: WaitingRun, moment: ClockReading
    ) -> QueuedRun:
        record = (find_json(self._store.get(entry.run).config) or {}).get("config")
        config = record if isinstance(record, dict) else {}
        waits = entry.start_after is not None and not entry.is_due(moment)
        return QueuedRun(
            run=entry.run,
            name=run.name,
            position=position,
            held=entry.held,
            why_held=entry.why_held,
            start_after=entry.start_after,
            when=format_time(entry.start_after or 0.0, moment.now) if waits else "",
            created=run.created,
            resumes=entry.resumes is not None,
            model_name=str(config.get("model_name", "")),
            dataset=str(config.get("dataset", "")),
            strategy=str(config.get("strategy", "sft")),
            target=run.target,
        )
