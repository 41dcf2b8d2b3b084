"""Resolve settings, open model and data, make the plan and run the preflight checks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modelforge.config.plan.make import Plan, make_plan
from modelforge.config.resolve import Layer, Resolved, resolve
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source
from modelforge.data.checks.parallel import CountCache
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
from modelforge.preflight import Report, RunContext, preflight
from modelforge.preflight.context import NO_DATA
from modelforge.preflight.plan_context import build_plan_context, train_rows
from modelforge.services.machine import MachineService
from modelforge.services.measurements import MemoryTraceStore, TrialRunResults

T = TypeVar("T")
CACHE_SIZE = 64


@dataclass(frozen=True)
class PreflightResult:
    """The result of a check. Parts that could not be determined are None."""

    resolved: Resolved | None = None
    plan: Plan | None = None
    report: Report | None = None
    data: RunData | None = None
    facts: ModelInfo | None = None
    machine: Machine | None = None
    errors: list[ForgeError] = field(default_factory=list)

    @property
    def summary(self) -> DatasetSummary | None:
        """Return the summary of all data sources combined."""
        return self.data.summary if self.data else None

    @property
    def problems(self) -> list[Problem]:
        """Return every problem of the settings, the model and the data."""
        return [problem for error in self.errors for problem in error.problems]

    @property
    def ready(self) -> bool:
        """Return whether a start with these settings is accepted."""
        return not self.errors and self.report is not None and not self.report.blocked

    def require(self) -> tuple[Resolved, Plan, Report, RunData]:
        """Return the parts that a start needs; raise one error with all problems otherwise."""
        if self.errors:
            raise merge_errors(self.errors)
        if not (self.resolved and self.plan and self.report and self.data):
            raise AssertionError("a check without errors is complete")
        return self.resolved, self.plan, self.report, self.data

    def as_dict(self) -> dict[str, Any]:
        """Return the check as REST and `check --json` give it."""
        return {
            "ready": self.ready,
            "problems": [problem.as_dict() for problem in self.problems],
            **(self.report.as_dict() if self.report else {"findings": [], "memory": []}),
            "plan": self.plan.as_dict() if self.plan else None,
        }


class PreflightService:
    """Check settings before a run. Models and sources are cached until their files change."""

    def __init__(
        self,
        home: Home,
        machine: MachineService,
        trial_run_results: TrialRunResults,
        memory_traces: MemoryTraceStore,
    ) -> None:
        self._home = home
        self._machine = machine
        self._trial_run_results = trial_run_results
        self._memory_traces = memory_traces
        self.count_cache = CountCache()
        self._sources: dict[tuple[object, ...], LoadedSource] = {}
        self._models: dict[str, ModelInfo] = {}
        self._lock = threading.Lock()

    def check(self, *layers: Layer, idle: bool = False) -> PreflightResult:
        """Return the plan, the estimates and all findings; invalid settings become problems.

        With `idle` the machine counts as unused: for runs that start later.
        """
        try:
            resolved = resolve(*layers)
        except ForgeError as error:
            return PreflightResult(errors=[error])
        config = resolved.config
        errors: list[ForgeError] = []
        facts = _collect(errors, lambda: self.model(config.model_name))
        data = self._load_data(config, errors)
        adapter = _collect(errors, lambda: self._find_adapter(config, facts))
        machine = self._machine.current()
        if facts is None:
            return PreflightResult(resolved, None, None, data, None, machine, errors)
        summary = data.summary if data else None
        rows = train_rows(config, facts, data) if data else None
        context = build_plan_context(
            config, machine, facts, train_rows=rows, summary=summary, start_from=adapter
        )
        plan = make_plan(config, context)
        machine = machine.when_idle() if idle else machine
        measured = None
        if summary:
            measured = self._trial_run_results.find(config, plan, facts, summary, machine)
        traced = self._memory_traces.find(config, plan, facts, summary)
        given = data or NO_DATA
        run = RunContext(config, plan, machine, facts, summary, self._home, given, measured, traced)
        report = preflight(run)
        return PreflightResult(resolved, plan, report, data, facts, machine, errors)

    def recommended(self, *layers: Layer) -> dict[str, Any]:
        """Return settings, by dotted names, that make a run faster with the same result.

        A run that fits in memory still fits with them. Raises as a start does for invalid
        settings, an unusable model or unusable data.
        """
        checked = self.check(*layers)
        if checked.errors:
            raise merge_errors(checked.errors)
        return checked.report.recommended if checked.report else {}

    def require_plan(self, *layers: Layer) -> tuple[Resolved, Plan, RunData]:
        """Return what a request to the worker needs; blockers do not matter.

        Raises ForgeError with all problems of the settings, the model and the data.
        """
        resolved, plan, _report, data = self.check(*layers).require()
        return resolved, plan, data

    def load_sources(self, sources: Sequence[Source]) -> list[LoadedSource]:
        """Return the opened sources, cached until a file changes; raise all problems at once."""
        opened: list[LoadedSource] = []
        errors: list[ForgeError] = []
        for source in sources:
            try:
                opened.append(self._load_source(source))
            except ForgeError as error:
                errors.append(error)
        if errors:
            raise merge_errors(errors)
        return opened

    def source_stamps(self, sources: Sequence[Source]) -> tuple[object, ...]:
        """Return a key that changes with the sources and their files; raises NotFoundError."""
        stamps: list[object] = []
        for source in sources:
            stamps.append(source.model_dump_json())
            for file in find_source_files(source, self._home):
                try:
                    stat = file.stat()
                except OSError as error:
                    what = f"{file.name} was removed or cannot be read."
                    raise NotFoundError(Problem("dataset", what, "Check the path.")) from error
                stamps.append((str(file), stat.st_mtime_ns, stat.st_size))
        return tuple(stamps)

    def summarize(self, dataset: str) -> DatasetSummary:
        """Return the summary of a dataset: a path, an upload's name or `sample:NAME`."""
        return self._load_source(Source(path=dataset)).summary

    def model(self, name: str) -> ModelInfo:
        """Return the facts of a model. Only found models are cached."""
        with self._lock:
            facts = self._models.get(name)
        if facts is None:
            facts = resolve_model(name, self._home)
            self._cache(self._models, name, facts)
        return facts

    def _load_source(self, source: Source) -> LoadedSource:
        key = self.source_stamps([source])
        with self._lock:
            loaded = self._sources.get(key)
        if loaded is None:
            loaded = load_sources([source], self._home, cache=self.count_cache)[0]
            self._cache(self._sources, key, loaded)
        return loaded

    def _load_data(self, config: TrainingConfig, errors: list[ForgeError]) -> RunData | None:
        """Return the data of a run; None, with the problems in `errors`, if a source is bad."""
        before = len(errors)
        training = _collect(errors, lambda: self.load_sources(config.sources()))
        validation = _collect(errors, lambda: self.load_sources(config.data.validation_sources))
        if len(errors) > before:
            return None
        return RunData(training or [], validation or [], several=bool(config.data.sources))

    def _find_adapter(self, config: TrainingConfig, facts: ModelInfo | None) -> str | None:
        """Return the folder of the adapter to start from, or None for a new adapter."""
        if facts is None or config.adapter.start_from is None or not config.adapter.enabled:
            return None
        return str(find_adapter(config, self._home, facts.path))

    def _cache(self, cache: dict[Any, Any], key: Any, value: Any) -> None:
        with self._lock:
            if len(cache) >= CACHE_SIZE:
                cache.pop(next(iter(cache)))
            cache[key] = value


def _collect(errors: list[ForgeError], compute: Callable[[], T]) -> T | None:
    """Return the result of `compute`; None, with the error in `errors`, if it raises one."""
    try:
        return compute()
    except ForgeError as error:
        errors.append(error)
        return None
