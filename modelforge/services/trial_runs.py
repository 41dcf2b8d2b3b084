"""Rehearsals: a few real updates on the longest rows before a run, measured and remembered."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.resolve import Layer
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.checks.summary import DatasetSummary
from modelforge.errors import BusyError, ForgeError, RunError
from modelforge.hardware.machine import Machine
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home
from modelforge.preflight.trial_run import TrialRunResult, trial_run_key
from modelforge.runs.atomic_files import find_json, read_json, write_json
from modelforge.runs.events import EventRecord, read_events
from modelforge.runs.layout import RunFolder
from modelforge.runs.process.lock import exclusive
from modelforge.runs.process.machine_lease import Lease
from modelforge.runs.process.supervisor import COMMAND, Supervisor
from modelforge.runs.process.warm_worker import Spare
from modelforge.runs.states import RunState, gather
from modelforge.runs.store import LOCK, Store
from modelforge.services.start import Order, StartDesk

KEPT = 5
REMEMBERED = 100
SIGNATURE = "rehearsal.json"
# What of a rehearsal is of no use once it is over.
LEFT = ("checkpoints", "output", ".output-staged", "reward_model", "trackers")
PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "unsloth")


@dataclass(frozen=True)
class TrialRunHome(Home):
    """The home as the rehearsals see it: their folders lie beside those of the runs."""

    @property
    def runs(self) -> Path:
        """One folder a rehearsal."""
        return self.root / "rehearsals"


@dataclass(frozen=True)
class TrialRunView:
    """One rehearsal as a person sees it.

    `phase` says what it does now, in words; `rehearsal` is what it has measured, once finished.
    `ending` is its last milestone as a run has it; `began` is Unix seconds.
    """

    id: str
    name: str
    state: RunState
    began: float
    phase: str
    done: int | None
    total: int | None
    trial_run: TrialRunResult | None
    ending: dict[str, Any] | None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "id": self.id,
            "name": self.name,
            "state": str(self.state),
            "began": self.began,
            "phase": self.phase,
            "done": self.done,
            "total": self.total,
            "trial_run": self.trial_run.as_dict() if self.trial_run else None,
            "ending": self.ending,
            "notes": list(self.notes),
        }


class TrialRuns:
    """Makes rehearsals, watches and stops them, and remembers what they have measured.

    A rehearsal holds the machine as a run does: its worker has the lease until it is gone.
    """

    def __init__(
        self,
        home: Home,
        starts: StartDesk,
        runs: Supervisor,
        spare: Spare,
        worker: Sequence[str] = COMMAND,
    ) -> None:
        own = TrialRunHome(home.root)
        self._known_path = own.runs / "known.json"
        self._store = Store(own)
        self._supervisor = Supervisor(own, command=worker)
        # Not all that lies there is a rehearsal.
        self._supervisor.watch(lambda _thorough: self._store.list())
        self._runs, self._starts, self._spare = runs, starts, spare
        self._lock = home.runs / LOCK
        # A token of its own: to the rest of this server it is somebody else who holds the machine.
        self._lease = Lease(home.lease, self._lock)

    def start(self, *layers: Layer) -> str:
        """Start a rehearsal of a run with these answers and return its id.

        Raises what `Forge.start` raises; then nothing has been created.
        """
        order = self._starts.prepare(*layers)
        with self._runs.claim():
            self._starts.require_free()
            folder = self._create(order)
            try:
                self._starts.make_way()
                self._supervisor.start(folder, self._spare)
                self._hold(folder)
            except ForgeError:
                self._store.delete(folder.id)
                raise
        return folder.id

    def view(self, rehearsal_id: str) -> TrialRunView:
        """Return one rehearsal as it stands now; raises NotFoundError."""
        folder = self._store.get(rehearsal_id)
        state = self._supervisor.state(folder)
        record = read_json(folder.config)
        events, _ = read_events(folder.events)
        latest = {event.kind: event for event in events}
        ending = next((latest[k] for k in ("finished", "stopped", "failed") if k in latest), None)
        phase = latest["phase"].data if "phase" in latest and ending is None else {}
        notes = tuple(str(event.data["text"]) for event in events if event.kind == "note")
        if state.is_over:
            self._settle(folder)
        return TrialRunView(
            id=folder.id,
            name=record["name"],
            state=state,
            began=record["created"],
            phase=str(phase.get("text", "")),
            done=phase.get("done"),
            total=phase.get("total"),
            trial_run=_measured(folder, latest.get("trial_run")),
            ending={"kind": ending.kind, **ending.data} if ending else None,
            notes=notes,
        )

    def list(self) -> list[str]:
        """Return the ids of the rehearsals that are still there, newest first."""
        return [folder.id for folder in self._store.list()]

    def active(self) -> str | None:
        """Return the id of the rehearsal that holds the machine, or None."""
        holder = self._supervisor.holder()
        return holder.id if holder else None

    def stop(self, rehearsal_id: str) -> RunState:
        """Ask a rehearsal to stop and return its state then; nothing of it is kept."""
        folder = self._store.get(rehearsal_id)
        self._supervisor.stop(folder, keep=False)
        return self._supervisor.state(folder)

    def known(
        self,
        config: TrainingConfig,
        plan: Plan,
        facts: ModelInfo,
        look: DatasetSummary,
        machine: Machine,
    ) -> TrialRunResult | None:
        """Return what a rehearsal of such a run has measured here, or None."""
        known = find_json(self._known_path) or {}
        found = known.get(trial_run_key(config, plan, facts, look, machine, _versions()))
        if not isinstance(found, dict):
            return None
        with contextlib.suppress(TypeError):
            return TrialRunResult.from_dict(found)
        return None

    def latest(
        self,
        config: TrainingConfig,
        plan: Plan,
        facts: ModelInfo,
        look: DatasetSummary,
        machine: Machine,
    ) -> TrialRunView | None:
        """Return the newest rehearsal of such a run, of those still there, or None."""
        name = trial_run_key(config, plan, facts, look, machine, _versions())
        for folder in self._store.list():
            if (find_json(folder.path / SIGNATURE) or {}).get("signature") == name:
                return self.view(folder.id)
        return None

    def tend(self) -> None:
        """Finish what is under way: stops, what another server left, and what is of no more use."""
        self._supervisor.tend()
        for folder in self._store.list():
            state = self._supervisor.state(folder)
            if state.is_over:
                self._settle(folder)
            elif state.is_active and self._lease.holder() is None:
                with contextlib.suppress(BusyError, RunError):
                    self._hold(folder)

    def _create(self, order: Order) -> RunFolder:
        config, facts, look = order.resolved.config, order.facts, order.material.summary
        name = trial_run_key(config, order.plan, facts, look, order.machine, _versions())
        folder = self._starts.create(order, store=self._store)
        write_json(folder.path / SIGNATURE, {"signature": name})
        return folder

    def _hold(self, folder: RunFolder) -> None:
        """Let the worker of a rehearsal have the machine; it has it for as long as it lives."""
        who = gather(folder).who
        if who is not None and who.alive:
            name = (find_json(folder.config) or {}).get("name", folder.id)
            self._lease.take("trial-run", str(name), who)

    def _settle(self, folder: RunFolder) -> None:
        """Remember what a rehearsal has measured; once its worker is gone, throw away the rest."""
        mark = folder.path / SIGNATURE
        said = find_json(mark) or {}
        if said.get("settled"):
            return
        with contextlib.suppress(ForgeError), exclusive(self._lock):
            if not said.get("remembered"):
                self._remember(folder, str(said.get("signature")))
                said["remembered"] = True
                write_json(mark, said)
            if gather(folder).alive:
                return
            for name in LEFT:
                shutil.rmtree(folder.path / name, ignore_errors=True)
            write_json(mark, {**said, "settled": True})
            over = [one for one in self._store.list() if self._supervisor.state(one).is_over]
            for old in over[KEPT:]:
                self._store.delete(old.id)

    def _remember(self, folder: RunFolder, name: str) -> None:
        events, _ = read_events(folder.events)
        told = next((event for event in reversed(events) if event.kind == "trial_run"), None)
        measured = _measured(folder, told)
        if measured is not None:
            known = find_json(self._known_path) or {}
            known[name] = measured.as_dict()
            newest = sorted(known.items(), key=lambda one: float(one[1].get("at") or 0.0))
            write_json(self._known_path, dict(newest[-REMEMBERED:]))


def _measured(folder: RunFolder, event: EventRecord | None) -> TrialRunResult | None:
    if event is None:
        return None
    with contextlib.suppress(TypeError):
        return TrialRunResult.from_dict({**event.data, "id": folder.id, "at": event.t})
    return None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
