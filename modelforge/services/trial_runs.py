"""Trial runs: a few steps on the longest rows, to measure memory and time before a run."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from modelforge.config.engines import uses_surogate
from modelforge.config.resolve import Layer
from modelforge.config.schema.base import about
from modelforge.errors import BusyError, ConfigError, ForgeError, Problem, RunError
from modelforge.paths import Home
from modelforge.preflight.trial_run import TrialRunResult
from modelforge.runs.atomic_files import find_json, read_json, write_json
from modelforge.runs.event_types import RewardTrialEvent, TrialRunEvent
from modelforge.runs.events import iter_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.machine_lease import MachineLease
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.states import RunState, read_facts
from modelforge.runs.store import LOCK, Store
from modelforge.runs.timeline import Timeline
from modelforge.runs.view import ending_data
from modelforge.services.measurements import TrialRunResults, read_result
from modelforge.services.start import RunLauncher, new_run

FOLDERS_KEPT = 5
RECORD, OLD_RECORD = "trial_run.json", "rehearsal.json"
# Files that are not needed any more when a trial run is over.
DISPOSABLE = ("checkpoints", "output", ".output-staged", "reward_model", "trackers")


@dataclass(frozen=True)
class TrialRunView:
    """A trial run: its state and its measurements."""

    id: str
    name: Annotated[str, about("The dataset and the model.")]
    state: RunState
    began: Annotated[float, about("Unix seconds.")]
    phase: Annotated[str, about("The current phase as text.")]
    done: int | None
    total: int | None
    trial_run: Annotated[
        TrialRunResult | None, about("The measurements; null until it has finished.")
    ]
    ending: Annotated[
        dict[str, Any] | None, about("The final event: `kind`, and the cause of a failure.")
    ]
    notes: Annotated[tuple[str, ...], about("Notes of the worker.")] = ()


class TrialRunService:
    """Start, watch and stop trial runs, and store their results.

    A trial run uses the GPU like a run: its worker process holds the GPU lease until it ends.
    The lease has a token of its own, so that other services of this server see a trial run as
    another user of the GPU.
    """

    def __init__(
        self, home: Home, launcher: RunLauncher, results: TrialRunResults, worker: Sequence[str]
    ) -> None:
        self._launcher = launcher
        self._results = results
        self._store = Store(home, runs=home.trial_runs)
        self._supervisor = Supervisor(home, runs=home.trial_runs, command=worker)
        self._lease = MachineLease(home.lease, home.runs / LOCK)

    def start(self, *layers: Layer) -> str:
        """Start a trial run with these settings and return its id.

        Raises what `RunService.start` raises; then nothing has been created.
        """
        checked = self._launcher.check(*layers)
        resolved, plan, *_rest = checked.require()
        if plan.ranks > 1:
            what = f"A trial run measures one GPU, and the run has {plan.ranks}."
            raise ConfigError(Problem("hardware.gpus", what, "Set it to 1, or start the run."))
        if uses_surogate(resolved.config):
            what = "A trial run measures ModelForge's own training, and the engine is surogate."
            raise ConfigError(Problem("hardware.engine", what, "Start the run instead."))
        with self._launcher.claim():
            self._launcher.require_free()
            folder = self._store.create(new_run(checked, trial_run=True))
            try:
                write_json(folder.path / RECORD, {"signature": checked.trial_run_key})
                self._launcher.launch(folder, self._supervisor)
                self._take_lease(folder)
            except ForgeError:
                self._store.delete(folder.id)
                raise
        return folder.id

    def view(self, trial_run_id: str) -> TrialRunView:
        """Return the state of a trial run; raises NotFoundError."""
        folder = self._store.get(trial_run_id)
        state = self._supervisor.state(folder)
        record = read_json(folder.config)
        timeline = Timeline().add_all(iter_events(folder.events))
        phase = timeline.phase if timeline.ending is None else None
        if state.is_over:
            self._settle(folder)
        return TrialRunView(
            id=folder.id,
            name=record["name"],
            state=state,
            began=record["created"],
            phase=phase.text if phase else "",
            done=phase.done if phase else None,
            total=phase.total if phase else None,
            trial_run=_result(folder, timeline),
            ending=ending_data(timeline.ending),
            notes=tuple(note.text for note in timeline.notes),
        )

    def active(self) -> str | None:
        """Return the id of the trial run that uses the GPU, or None."""
        folder = self._supervisor.holder()
        return folder.id if folder else None

    def stop(self, trial_run_id: str) -> RunState:
        """Request a stop and return the state then; no files are kept."""
        folder = self._store.get(trial_run_id)
        self._supervisor.stop(folder, keep=False)
        return self._supervisor.state(folder)

    def latest(self, key: str) -> TrialRunView | None:
        """Return the newest kept trial run with the key of a `PreflightResult`, or None."""
        for folder in self._store.list():
            if _read_record(folder).get("signature") == key:
                return self.view(folder.id)
        return None

    def tend(self) -> None:
        """Complete stops, take the lease for workers of another server, delete old folders."""
        self._supervisor.tend()
        for folder in self._store.list():
            state = self._supervisor.state(folder)
            if state.is_over:
                self._settle(folder)
            elif state.is_active and self._lease.holder() is None:
                with contextlib.suppress(BusyError, RunError):
                    self._take_lease(folder)

    def _take_lease(self, folder: RunFolder) -> None:
        """Give the GPU lease to the worker of a trial run, for as long as the process lives."""
        who = read_facts(folder).process
        if who is not None and who.alive:
            name = (find_json(folder.config) or {}).get("name", folder.id)
            self._lease.take("trial-run", str(name), who)

    def _settle(self, folder: RunFolder) -> None:
        """Store the result; once the worker is gone, delete files and old folders."""
        record = _read_record(folder)
        if record.get("settled"):
            return
        with contextlib.suppress(ForgeError), self._launcher.claim():
            if not record.get("remembered"):
                result = _result(folder, Timeline().add_all(iter_events(folder.events)))
                if result is not None:
                    self._results.add(str(record.get("signature")), result)
                record["remembered"] = True
                write_json(folder.path / RECORD, record)
            if read_facts(folder).alive:
                return
            for name in DISPOSABLE:
                shutil.rmtree(folder.path / name, ignore_errors=True)
            write_json(folder.path / RECORD, {**record, "settled": True})
            over = [one for one in self._store.list() if self._supervisor.state(one).is_over]
            for old in over[FOLDERS_KEPT:]:
                self._store.delete(old.id)


def _read_record(folder: RunFolder) -> dict[str, Any]:
    return find_json(folder.path / RECORD) or find_json(folder.path / OLD_RECORD) or {}


def _result(folder: RunFolder, timeline: Timeline) -> TrialRunResult | None:
    """Return what the trial run has measured, or None before its end."""
    event = timeline.newest(TrialRunEvent)
    if event is None:
        return None
    data = event.as_data() | {"id": folder.id, "at": timeline.updated}
    if (trial := timeline.newest(RewardTrialEvent)) is not None:
        data["reward_trial"] = trial.as_data()
    return read_result(data)
