"""Which runs use a data file or a model, and whether one of them still needs it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.data.sources.combine import files_in_record
from modelforge.errors import BusyError, Problem
from modelforge.paths import Home
from modelforge.runs.evaluations import EvaluationFolder
from modelforge.runs.exports import ExportFolder
from modelforge.runs.jobs import JobFolder, JobRecord, unfinished
from modelforge.runs.layout import RunFolder
from modelforge.runs.notes import run_name
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.scheduling.queue import read_queue
from modelforge.runs.states import RunState
from modelforge.runs.store import Store


@dataclass(frozen=True)
class UsingRun:
    """A run that was trained with a stored file or model."""

    id: str
    name: str
    waits: Annotated[bool, about("Whether it is in progress or waits in the queue.")]


@dataclass
class Uses:
    """The ids of the runs that use each data file and each model, the newest run first."""

    files: dict[Path, list[str]] = field(default_factory=lambda: defaultdict(list))
    models: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


class RunUses:
    """Reads the records of all runs of a home. Thread-safe."""

    def __init__(self, home: Home, store: Store, supervisor: Supervisor) -> None:
        self._home = home
        self._store = store
        self._supervisor = supervisor

    def read(self) -> Uses:
        """Return what every run uses."""
        uses = Uses()
        for run_id, record in sorted(self._store.records().items(), reverse=True):
            dataset, config = record.get("dataset"), record.get("config")
            for path in _files(dataset):
                uses.files[path].append(run_id)
            if isinstance(config, dict):
                for name in {config.get("model_name"), _reward_model(config)}:
                    if isinstance(name, str):
                        uses.models[name.strip()].append(run_id)
        return uses

    def describe(self, run_ids: Sequence[str]) -> list[UsingRun]:
        """Return name and state of runs; those that are gone are left out."""
        queue = read_queue(self._home.queue)
        runs = []
        for run_id in run_ids:
            folder = RunFolder(self._home.runs / run_id)
            if not folder.config.is_file():
                continue
            state = self._supervisor.state(folder)
            queued = state is RunState.QUEUED or queue.find(run_id) is not None
            runs.append(UsingRun(run_id, run_name(folder), state.is_active or queued))
        return runs

    def require_unneeded(self, name: str, run_ids: Sequence[str]) -> None:
        """Raise BusyError if a run or a job that is not over uses what is to be deleted."""
        needing = [run for run in self.describe(run_ids) if run.waits]
        if needing:
            names = ", ".join(f"“{run.name}”" for run in needing[:3])
            what = f"{name} cannot be deleted: {names} in progress or in the queue uses it."
            raise BusyError(Problem(name, what, "Delete it when the run is over."), needing[0].id)
        for folder, record in unfinished_jobs(self._home):
            if any(record.request.uses(run_id) for run_id in run_ids):
                job = f"the {folder.NOUN} of “{record.run_name}”"
                what = f"{name} cannot be deleted: {job} uses it."
                remedy = f"Delete it when the {folder.NOUN} is over."
                raise BusyError(Problem(name, what, remedy), folder.id)


def unfinished_jobs(home: Home) -> list[tuple[JobFolder, JobRecord]]:
    """Return the exports and evaluations that wait or are in progress."""
    exports = unfinished(home.exports, ExportFolder)
    return [*exports, *unfinished(home.evaluations, EvaluationFolder)]


def _files(dataset: Any) -> set[Path]:
    try:
        return files_in_record(dataset) if isinstance(dataset, dict) else set()
    except (KeyError, TypeError):  # a damaged record
        return set()


def _reward_model(config: dict[str, Any]) -> Any:
    trainer = config.get("trainer")
    return trainer.get("reward_model") if isinstance(trainer, dict) else None
