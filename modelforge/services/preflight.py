"""From answers to a checked plan: config, model, data and preflight, all problems at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modelforge.config.plan.make import Plan, make_plan
from modelforge.config.resolve import Layer, Resolved, resolve
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.sources.combine import RunData
from modelforge.data.sources.load import LoadedSource, load_sources
from modelforge.data.sources.locate import find_source_files
from modelforge.errors import ForgeError, NotFoundError, Problem, merge_errors
from modelforge.hardware.machine import Machine
from modelforge.models.adapters import find_adapter
from modelforge.models.architecture import ModelInfo
from modelforge.models.resolve import resolve_model
from modelforge.paths import Home
from modelforge.preflight import Report, preflight
from modelforge.preflight.context import NO_DATA
from modelforge.preflight.memory.traced import MemoryTrace
from modelforge.preflight.plan_context import build_plan_context, train_rows
from modelforge.preflight.trial_run import TrialRunResult

Thing = TypeVar("Thing")
Traced = Callable[[TrainingConfig, Plan, ModelInfo, DatasetSummary | None], MemoryTrace | None]
Rehearsed = Callable[
    [TrainingConfig, Plan, ModelInfo, DatasetSummary, Machine], TrialRunResult | None
]
REMEMBERED = 64


@dataclass(frozen=True)
class Checked:
    """All there is to say about some answers. What could not be reached is None."""

    resolved: Resolved | None = None
    plan: Plan | None = None
    report: Report | None = None
    material: RunData | None = None
    facts: ModelInfo | None = None
    machine: Machine | None = None
    errors: list[ForgeError] = field(default_factory=list)

    @property
    def look(self) -> DatasetSummary | None:
        """Return the first look at all of the data as one."""
        return self.material.summary if self.material else None

    @property
    def problems(self) -> list[Problem]:
        """Return every problem: of the answers, the model and the data."""
        return [problem for error in self.errors for problem in error.problems]

    @property
    def ready(self) -> bool:
        """Say whether Start would be accepted."""
        return not self.errors and self.report is not None and not self.report.blocked

    def require(self) -> tuple[Resolved, Plan, Report, RunData]:
        """Return the parts of a start; raises the first error with the problems of all."""
        if self.errors:
            raise merge_errors(self.errors)
        if not (self.resolved and self.plan and self.report and self.material):
            raise AssertionError("a check without errors is complete")
        return self.resolved, self.plan, self.report, self.material

    def as_dict(self) -> dict[str, Any]:
        """Return what REST and `check --json` give."""
        return {
            "ready": self.ready,
            "problems": [problem.as_dict() for problem in self.problems],
            **(self.report.as_dict() if self.report else {"findings": [], "memory": []}),
            "plan": self.plan.as_dict() if self.plan else None,
        }


class Inquiry:
    """Asks the rooms below in order, and remembers looks at unchanged files."""

    def __init__(self, home: Home, machine: Callable[..., Machine]) -> None:
        self._home = home
        self._machine = machine
        self._supplies: dict[tuple[object, ...], LoadedSource] = {}
        self._models: dict[str, ModelInfo] = {}
        self._lock = threading.Lock()
        self._rehearsals: Rehearsed = lambda *_about: None
        self._footprints: Traced = lambda *_about: None

    def look_up(self, rehearsals: Rehearsed, footprints: Traced) -> None:
        """Ask these what a rehearsal has measured of a run, and what was traced of it."""
        self._rehearsals, self._footprints = rehearsals, footprints

    def check(self, *layers: Layer, idle: bool = False) -> Checked:
        """Return what config, model, data and preflight say of these layers.

        With `idle` the machine is taken as it is when nothing runs on it: for what starts later.
        """
        try:
            resolved = resolve(*layers)
        except ForgeError as error:
            return Checked(errors=[error])
        config = resolved.config
        errors: list[ForgeError] = []
        facts = _collect(errors, lambda: self.model(config.model_name))
        material = self._material(config, errors)
        start = _collect(errors, lambda: self._adapter(config, facts))
        plan = self._plan(config, facts, material, start)
        seen = material.summary if material else None
        report, machine = None, self._machine()
        if plan is not None:
            machine = machine.when_idle() if idle else machine
            known = self._rehearsed(config, plan, facts, seen, machine)
            traced = self._footprints(config, plan, facts, seen) if facts else None
            given = material or NO_DATA
            report = preflight(config, plan, machine, facts, seen, self._home, given, known, traced)
        return Checked(resolved, plan, report, material, facts, machine, errors)

    def readied(self, *layers: Layer) -> tuple[Resolved, Plan, RunData]:
        """Return what a question to the worker needs; raises as `require` does, not if blocked."""
        resolved, plan, _report, material = self.check(*layers).require()
        return resolved, plan, material

    def supplies(self, sources: Sequence[Source]) -> list[LoadedSource]:
        """Return the sources opened, remembered until a file changes; raises for all at once."""
        opened: list[LoadedSource] = []
        errors: list[ForgeError] = []
        for source in sources:
            try:
                opened.append(self._supply(source))
            except ForgeError as error:
                errors.append(error)
        if errors:
            raise merge_errors(errors)
        return opened

    def stamps(self, sources: Sequence[Source]) -> tuple[object, ...]:
        """Return what changes when a source or one of its files does; raises NotFoundError."""
        marks: list[object] = []
        for source in sources:
            marks.append(source.model_dump_json())
            for file in find_source_files(source, self._home):
                try:
                    stat = file.stat()
                except OSError as error:
                    what = f"{file.name} went away, or may not be read."
                    raise NotFoundError(Problem("dataset", what, "Check the path.")) from error
                marks.append((str(file), stat.st_mtime_ns, stat.st_size))
        return tuple(marks)

    def look(self, dataset: str) -> DatasetSummary:
        """Return the first look at what the setting `dataset` says."""
        return self._supply(Source(path=dataset)).summary

    def model(self, name: str) -> ModelInfo:
        """Return the facts of a model. Found ones are remembered, failures asked again."""
        with self._lock:
            known = self._models.get(name)
        if known is None:
            known = resolve_model(name, self._home)
            self._remember(self._models, name, known)
        return known

    def _supply(self, source: Source) -> LoadedSource:
        key = self.stamps([source])
        with self._lock:
            known = self._supplies.get(key)
        if known is None:
            known = load_sources([source], self._home)[0]
            self._remember(self._supplies, key, known)
        return known

    def _material(self, config: TrainingConfig, errors: list[ForgeError]) -> RunData | None:
        """Return the data of a run, or None with what is wrong with each source."""
        before = len(errors)
        supplies = _collect(errors, lambda: self.supplies(config.sources()))
        checked_on = _collect(errors, lambda: self.supplies(config.data.validation_sources))
        if len(errors) > before:
            return None
        return RunData(supplies or [], checked_on or [], several=bool(config.data.sources))

    def _adapter(self, config: TrainingConfig, facts: ModelInfo | None) -> str | None:
        """Return the folder of the adapter to begin with, or None for a new one."""
        if facts is None or config.adapter.start_from is None or not config.adapter.enabled:
            return None
        return str(find_adapter(config, self._home, facts.path))

    def _rehearsed(
        self,
        config: TrainingConfig,
        plan: Plan,
        facts: ModelInfo | None,
        look: DatasetSummary | None,
        machine: Machine,
    ) -> TrialRunResult | None:
        return self._rehearsals(config, plan, facts, look, machine) if facts and look else None

    def _plan(
        self,
        config: TrainingConfig,
        facts: ModelInfo | None,
        material: RunData | None,
        start: str | None,
    ) -> Plan | None:
        if facts is None:
            return None
        rows = train_rows(config, facts, material) if material else None
        look = material.summary if material else None
        ground = build_plan_context(
            config, self._machine(), facts, train_rows=rows, look=look, start=start
        )
        return make_plan(config, ground)

    def _remember(self, memory: dict[Any, Any], key: Any, value: Any) -> None:
        with self._lock:
            if len(memory) >= REMEMBERED:
                memory.pop(next(iter(memory)))
            memory[key] = value


def _collect(errors: list[ForgeError], ask: Callable[[], Thing]) -> Thing | None:
    try:
        return ask()
    except ForgeError as error:
        errors.append(error)
        return None
