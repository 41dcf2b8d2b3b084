"""Start, watch and stop runs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from modelforge.config.resolve import Layer
from modelforge.errors import NotFoundError
from modelforge.paths import open_regular
from modelforge.runs.atomic_files import find_json, write_text
from modelforge.runs.events import EventRecord, read_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import RunFilter
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.progress.breakdown import Breakdown, breakdown
from modelforge.runs.samples import SampleTime, sample_times
from modelforge.runs.states import RunState
from modelforge.runs.store import Store
from modelforge.runs.timeline import TimelineReader, timeline_reader
from modelforge.runs.view import RunView, view_run
from modelforge.services.history import HistoryService
from modelforge.services.start import RunLauncher

LOG_BYTES = 16_384


class RunService:
    """The runs of a home. Thread-safe."""

    def __init__(
        self,
        store: Store,
        supervisor: Supervisor,
        launcher: RunLauncher,
        history: HistoryService,
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._launcher = launcher
        self._history = history

    def start(
        self,
        *layers: Layer,
        name: str | None = None,
        request_id: str | None = None,
        plan_hash: str | None = None,
        on: str | None = None,
    ) -> str:
        """Start a run and return its id; the same `request_id` never starts a second one.

        `on` is the name of a target that trains it, in place of this computer. Raises ConfigError,
        NotFoundError, DataError, BlockedError or BusyError, and StalePlanError if `plan_hash` is
        that of another plan; then nothing has been created.
        """
        return self._launcher.create_once(
            request_id,
            lambda: self._launcher.prepare(
                *layers, name=name, request_id=request_id, plan_hash=plan_hash, on=on
            ),
            self._launcher.start,
        )

    def view(self, run_id: str) -> RunView:
        """Return the settings, the progress and the state of a run; raises NotFoundError."""
        folder = self._store.get(run_id)
        state = self._supervisor.state(folder)
        if not state.is_active:
            return view_run(folder, state)
        reader = timeline_reader(folder.events)
        reader.poll()
        return view_run(folder, state, reader.timeline)

    def timeline(self, run_id: str) -> TimelineReader:
        """Return the shared reader of a run's events; raises NotFoundError."""
        return timeline_reader(self._store.get(run_id).events)

    def samples(self, run_id: str) -> list[SampleTime]:
        """Return the answers to the sample prompts over time; raises NotFoundError."""
        reader = self.timeline(run_id)
        reader.poll()
        return sample_times(reader.timeline)

    def breakdown(self, run_id: str) -> Breakdown:
        """Return measured time and memory by part, beside the estimate; raises NotFoundError."""
        reader = self.timeline(run_id)
        reader.poll()
        report = find_json(self._store.get(run_id).preflight) or {}
        return breakdown(reader.timeline, report.get("memory") or ())

    def views(self, filters: RunFilter | None = None, *, limit: int | None = None) -> list[RunView]:
        """Return the readable runs that match, newest first.

        `HistoryService.page` returns table rows, which is faster for many runs.
        """
        views = []
        for row in self._history.page(filters, limit=limit).rows:
            with contextlib.suppress(NotFoundError):  # deleted meanwhile
                views.append(self.view(row.id))
        return views

    def active(self) -> str | None:
        """Return the id of the run that uses the GPU, or None."""
        folder = self._supervisor.holder()
        return folder.id if folder else None

    def state(self, run_id: str) -> RunState:
        """Return the state of a run."""
        return self._supervisor.state(self._store.get(run_id))

    def folder(self, run_id: str) -> RunFolder:
        """Return the folder of a run; raises NotFoundError."""
        return self._store.get(run_id)

    def events(
        self, run_id: str, after: int = 0, limit_bytes: int | None = None
    ) -> tuple[list[EventRecord], int]:
        """Return the events after byte `after`, and the byte to continue from.

        `limit_bytes` is approximate; later events are left to the next call.
        """
        return read_events(self._store.get(run_id).events, after, limit_bytes)

    def log(self, run_id: str, tail_bytes: int = LOG_BYTES) -> str:
        """Return the end of the worker's log."""
        return log_tail(self._store.get(run_id).log, tail_bytes)

    def stop(self, run_id: str, *, keep: bool = True) -> RunState:
        """Request a stop, with or without saving the model; return the state then."""
        folder = self._store.get(run_id)
        self._supervisor.stop(folder, keep=keep)
        return self._supervisor.state(folder)

    def mark_discarded(self, run_id: str) -> None:
        """Note that a run which was stopped is not to be resumed; its files stay."""
        folder = self._store.get(run_id)
        if self._supervisor.state(folder) is RunState.STOPPED:
            write_text(folder.stop, "discard")

    def discard(self, run_id: str) -> None:
        """Delete model and checkpoints of a run that was stopped; raises BusyError."""
        self.mark_discarded(run_id)
        folder = self._store.get(run_id)
        parts = [path for path in (folder.output, folder.checkpoints) if path.is_dir()]
        self._store.delete_parts(run_id, parts)


def log_tail(path: Path, max_bytes: int) -> str:
    """Return the end of a log; empty if it is missing. Raises OSError."""
    if not path.exists():
        return ""
    with open_regular(path) as file:
        file.seek(max(0, path.stat().st_size - max_bytes))
        return file.read().decode("utf-8", errors="replace")
