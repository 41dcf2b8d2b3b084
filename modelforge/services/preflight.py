"""Resolve settings, open model and data, make the plan and run the preflight checks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from modelforge.config.engines import uses_surogate
from modelforge.config.plan.make import Plan, make_plan
from modelforge.config.profiles import load_profiles
from modelforge.config.resolve import Layer, Resolved, resolve
from modelforge.config.schema.base import about
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.data import Source
from modelforge.data.checks.parallel import CountCache
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.core_sizes import CoreTaskSize, core_task_sizes
from modelforge.data.core_tasks import check_core_folder
from modelforge.data.sources.combine import RunData
from modelforge.data.sources.load import LoadedSource, load_sources
from modelforge.data.sources.locate import find_source_files
from modelforge.errors import ForgeError, NotFoundError, Problem, merge_errors
from modelforge.hardware.machine import Machine
from modelforge.models.adapters import find_adapter
from modelforge.models.architecture import ModelInfo
from modelforge.models.from_nothing import new_model
from modelforge.models.resolve import UnusableWeightsError, model_stamp, resolve_model
from modelforge.models.reward_model import check_reward_model
from modelforge.models.tokenizer import tokenizer_folder, with_tokenizer
from modelforge.paths import Home, expand_user, folder_stamp
from modelforge.preflight import Report, RunContext, preflight
from modelforge.preflight.cache_key import plan_hash, trial_run_key
from modelforge.preflight.context import NO_DATA, build_plan_context, train_rows
from modelforge.preflight.memory.traced import MemoryTrace, longest_row_tokens
from modelforge.preflight.prompts import (
    LongPrompts,
    max_prompt_tokens,
    may_be_too_long,
    measure_prompts,
)
from modelforge.runs.evaluations import EvaluationFolder
from modelforge.runs.index import Index
from modelforge.runs.jobs import job_folders
from modelforge.runs.process.warm_worker import WarmWorker
from modelforge.runs.store import package_versions
from modelforge.services.cache import Cache, file_stamp
from modelforge.services.checkpoints.source import find_resume_source
from modelforge.services.jobs.view import correction
from modelforge.services.machine import MachineService
from modelforge.services.measurements import (
    MEASURED_PACKAGES,
    FinishedRuns,
    MemoryTraceStore,
    TrialRunResults,
    trace_key,
)

T = TypeVar("T")
CACHE_SIZE = 64
TRACE_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Preflight(Report):
    """The result of checking settings. Memory and time are estimates."""

    ready: Annotated[bool, about("Whether the run can be started.")]
    blocked: Annotated[bool, about("Whether a finding blocks the start.")] = False
    problems: Annotated[list[Problem], about("Errors in the settings, the model or the data.")]
    plan: Annotated[Plan | None, about("The effective settings, with a reason for every change.")]
    plan_hash: Annotated[
        str, about("Identifies the plan, its data and its model; a start can require it.")
    ] = ""


@dataclass(frozen=True)
class PreflightResult:
    """The result of a check. Parts that could not be determined are None.

    `trial_run_key` is the key of trial runs with equal settings on this machine.
    """

    resolved: Resolved | None = None
    plan: Plan | None = None
    report: Report | None = None
    data: RunData | None = None
    facts: ModelInfo | None = None
    machine: Machine | None = None
    trial_run_key: str | None = None
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

    @property
    def plan_hash(self) -> str:
        """Return the hash of the plan, its data and its model; empty for a check with errors."""
        if self.errors:
            return ""
        resolved, plan, _report, data, facts = self.require()
        return plan_hash(resolved.config, plan, facts, data.as_record())

    def require(self) -> tuple[Resolved, Plan, Report, RunData, ModelInfo]:
        """Return the parts that a start needs; raise one error with all problems otherwise."""
        if self.errors:
            raise merge_errors(self.errors)
        if not (self.resolved and self.plan and self.report and self.data and self.facts):
            raise AssertionError("a check without errors is complete")
        return self.resolved, self.plan, self.report, self.data, self.facts

    def probe(self, kind: str) -> dict[str, Any]:
        """Return a request to the warm worker about these settings; raises what `require` does."""
        resolved, plan, _report, data, _facts = self.require()
        return {
            "kind": kind,
            "config": resolved.config.explicit_values(),
            "plan": plan.as_dict(),
            "dataset": data.as_record(),
        }

    def as_preflight(self) -> Preflight:
        """Return the check as REST and `check --json` give it."""
        return Preflight(
            **vars(self.report or Report()),
            ready=self.ready,
            blocked=self.report is not None and self.report.blocked,
            problems=self.problems,
            plan=self.plan,
            plan_hash=self.plan_hash,
        )


class PreflightService:
    """Check settings before a run. Models and sources are cached until their files change."""

    def __init__(
        self, home: Home, machine: MachineService, warm_worker: WarmWorker, index: Index
    ) -> None:
        self._home = home
        self._finished_runs = FinishedRuns(home, index)
        self._machine = machine
        self._warm_worker = warm_worker
        self._memory_traces = MemoryTraceStore(home)
        self.trial_run_results = TrialRunResults(home)
        self.count_cache = CountCache()
        self._sources: Cache[tuple[object, ...], LoadedSource] = Cache(CACHE_SIZE)
        self._models: Cache[tuple[object, ...], ModelInfo] = Cache(CACHE_SIZE)
        self._core: Cache[object, tuple[CoreTaskSize, ...]] = Cache(CACHE_SIZE)
        self._prompts: Cache[object, LongPrompts | None] = Cache(CACHE_SIZE)

    def check(
        self, *layers: Layer, idle: bool = False, machine: Machine | None = None
    ) -> PreflightResult:
        """Return the plan, the estimates and all findings; invalid settings become problems.

        With `idle` the machine counts as unused. `machine` is that of a run that trains elsewhere.
        """
        try:
            resolved = resolve(*layers, profiles=load_profiles(self._home.profiles))
        except ForgeError as error:
            return PreflightResult(errors=[error])
        config = resolved.config
        errors: list[ForgeError] = []
        facts = self._find_model(config, errors)
        facts = _collect(errors, lambda: self._with_tokenizer(config, facts)) or facts
        data = self._load_data(config, errors)
        adapter = _collect(errors, lambda: self._find_adapter(config, facts))
        resumed = _collect(errors, lambda: find_resume_source(config, self._home))
        _collect(errors, lambda: check_reward_model(config, self._home))
        _collect(errors, lambda: check_core_folder(config))
        machine = machine or self._machine.for_run()
        if facts is None:
            return PreflightResult(resolved, data=data, machine=machine, errors=errors)
        summary = data.summary if data else None
        rows = train_rows(config, facts, data) if data else None
        context = build_plan_context(
            config,
            machine,
            facts,
            train_rows=rows,
            summary=summary,
            start_from=adapter,
            home=self._home,
        )
        plan = make_plan(config, replace(context, resume_from=str(resumed) if resumed else None))
        machine = machine.when_idle() if idle else machine
        run = RunContext(config, plan, machine, facts, summary, self._home, data or NO_DATA)
        key = _trial_run_key(run)
        report = preflight(self._with_measurements(run, facts, data, key))
        return PreflightResult(resolved, plan, report, data, facts, machine, key, errors)

    def trace_memory(self, *layers: Layer) -> PreflightResult:
        """Return the check of settings with memory traced by the training code.

        The warm worker makes the trace, unless it is known. Raises what a check raises, and
        BusyError or RunError when no worker is available.
        """
        checked = self.check(*layers)
        resolved, plan, report, _data, facts = checked.require()
        config = resolved.config
        # A model that is trained from nothing cannot be loaded before the run has made it.
        # A growing model has the sizes of its stages, and the trunk runs without gradients.
        is_made = config.pretraining.enabled or config.progressive.enabled
        # The code that is traced is that of one GPU.
        is_other = uses_surogate(config) or plan.ranks > 1
        if report.memory_basis != "formula" or is_other or is_made:
            return checked
        length = longest_row_tokens(resolved.config, plan, checked.summary)
        trace = self._warm_worker.ask(checked.probe("memory") | {"length": length}, TRACE_TIMEOUT_S)
        key = trace_key(resolved.config, plan, facts, length)
        self._memory_traces.add(MemoryTrace(key, **trace))
        return self.check(*layers)

    def recommended(self, *layers: Layer) -> dict[str, Any]:
        """Return settings, by dotted names, that make a run faster with the same result.

        A run that fits in memory still fits with them. Raises as a start does for invalid
        settings, an unusable model or unusable data.
        """
        return self.check(*layers).require()[2].recommended

    def load_sources(self, sources: Sequence[Source]) -> list[LoadedSource]:
        """Return the opened sources, cached until a file changes; raise all problems at once."""
        errors: list[ForgeError] = []
        opened = [_collect(errors, partial(self._load_source, source)) for source in sources]
        if errors:
            raise merge_errors(errors)
        return [loaded for loaded in opened if loaded is not None]

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
        """Return the facts of a model. Only found models are cached, until their files change."""
        key = name, model_stamp(name, self._home)
        return self._models.get(key, lambda: resolve_model(name, self._home))

    def _with_measurements(
        self, run: RunContext, facts: ModelInfo, data: RunData | None, key: str | None
    ) -> RunContext:
        """Return a run with what earlier runs have measured, and the lengths of its prompts.

        `key` is that of trial runs.
        """
        length = longest_row_tokens(run.config, run.plan, run.summary)
        return replace(
            run,
            trial_run=self.trial_run_results.find(key) if key else None,
            memory_trace=self._memory_traces.find(trace_key(run.config, run.plan, facts, length)),
            long_prompts=self._measure_prompts(run.config, run.plan, data),
            last_run=self._finished_runs.find(key) if key else None,
            step_time_factor=self._finished_runs.step_time_factor(
                run.plan.device, from_nothing=run.plan.pretraining is not None
            ),
            evaluation_time_factor=self._evaluation_time_factor(run.config),
            core=self._core_sizes(run.config),
        )

    def _core_sizes(self, config: TrainingConfig) -> tuple[CoreTaskSize, ...]:
        """Return the tasks of the CORE folder; none without one, or with a wrong one."""
        name, most = config.evaluation.core_bundle, config.evaluation.core_max_per_task
        if name is None or not config.pretraining.enabled:
            return ()
        folder = expand_user(name)
        with contextlib.suppress(ForgeError):
            key = str(folder), file_stamp(folder / "core.yaml"), most
            return self._core.get(key, lambda: tuple(core_task_sizes(folder, most)))
        return ()

    def _evaluation_time_factor(self, config: TrainingConfig) -> float:
        """Return how many times as long as estimated the last evaluations of this home took."""
        if not config.evaluation.report:
            return 1.0
        return correction(reversed(job_folders(self._home.evaluations, EvaluationFolder)))

    def _load_source(self, source: Source) -> LoadedSource:
        return self._sources.get(
            self.source_stamps([source]),
            lambda: load_sources([source], self._home, cache=self.count_cache)[0],
        )

    def _load_data(self, config: TrainingConfig, errors: list[ForgeError]) -> RunData | None:
        """Return the data of a run; None, with the problems in `errors`, if a source is bad."""
        before = len(errors)
        training = _collect(errors, lambda: self.load_sources(config.sources()))
        validation = _collect(errors, lambda: self.load_sources(config.data.validation_sources))
        if len(errors) > before:
            return None
        return RunData(training or [], validation or [], several=bool(config.data.sources))

    def _measure_prompts(
        self, config: TrainingConfig, plan: Plan, data: RunData | None
    ) -> LongPrompts | None:
        """Return the lengths of the prompts if none leaves room for a completion.

        They are measured with the tokenizer of a model on this computer.
        """
        limit, tokenizer = max_prompt_tokens(config, plan), Path(plan.model_path, "tokenizer.json")
        if data is None or limit is None or not tokenizer.is_file():
            return None
        if not may_be_too_long(data.summary.examples, limit):
            return None

        def measure() -> LongPrompts | None:
            from tokenizers import Tokenizer  # noqa: PLC0415 - only needed for long prompts

            try:
                tokenize = Tokenizer.from_file(str(tokenizer)).encode
            except Exception:  # noqa: BLE001 - the library raises no class of its own
                return None
            rows = (row for source in data.sources for row in source.canonical_rows())
            return measure_prompts(
                rows, limit, lambda text: len(tokenize(text, add_special_tokens=False).ids)
            )

        stamps = self.source_stamps([source.source for source in data.sources])
        return self._prompts.get((stamps, tokenizer, file_stamp(tokenizer), limit), measure)

    def _find_model(self, config: TrainingConfig, errors: list[ForgeError]) -> ModelInfo | None:
        """Return the facts of a model, also of one whose weights are missing or damaged.

        Those of a model that is trained from nothing follow from the settings.
        """
        try:
            if config.pretraining.enabled:
                return new_model(config, self._home)
            return self.model(config.model_name)
        except UnusableWeightsError as error:
            errors.append(error)
            return error.model if error.model.parameters else None
        except ForgeError as error:
            errors.append(error)
            return None

    def _with_tokenizer(self, config: TrainingConfig, facts: ModelInfo | None) -> ModelInfo | None:
        """Return the facts of a model with the tokenizer that the settings name, if they do."""
        if facts is None or config.model.tokenizer is None:
            return facts
        folder = tokenizer_folder(config.model.tokenizer, self._home)
        own: Path | None = None
        with contextlib.suppress(ForgeError):
            own = tokenizer_folder(facts.name, self._home)
        stamps = folder_stamp(folder), folder_stamp(own) if own else ()
        key = facts.name, str(folder), *stamps, facts
        return self._models.get(key, lambda: with_tokenizer(facts, own, folder))

    def _find_adapter(self, config: TrainingConfig, facts: ModelInfo | None) -> str | None:
        """Return the folder of the adapter to start from, or None for a new adapter."""
        if facts is None or config.adapter.start_from is None or not config.adapter.enabled:
            return None
        return str(find_adapter(config, self._home, facts.path))


def _trial_run_key(run: RunContext) -> str | None:
    """Return the key of trial runs like this run; None without a model or data."""
    if run.model is None or run.summary is None:
        return None
    versions = package_versions(MEASURED_PACKAGES)
    return trial_run_key(run.config, run.plan, run.model, run.summary, run.machine, versions)


def _collect(errors: list[ForgeError], compute: Callable[[], T]) -> T | None:
    """Return the result of `compute`; None, with the error in `errors`, if it raises one."""
    try:
        return compute()
    except ForgeError as error:
        errors.append(error)
        return None
