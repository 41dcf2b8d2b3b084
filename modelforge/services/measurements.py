"""Measurements of earlier runs: memory traces, trial runs and finished runs."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from modelforge.config.plan.make import Device, Plan
from modelforge.config.providers import PROVIDER_PACKAGES
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ForgeError
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home
from modelforge.preflight.cache_key import memory_trace_key
from modelforge.preflight.memory.traced import MemoryTrace
from modelforge.preflight.trial_run import LastRun, TrialRunResult
from modelforge.runs.atomic_files import find_json, write_json
from modelforge.runs.events import iter_events
from modelforge.runs.index import Index
from modelforge.runs.layout import RunFolder
from modelforge.runs.listing import RunRow
from modelforge.runs.states import RunState
from modelforge.runs.store import package_versions
from modelforge.runs.timeline import Timeline
from modelforge.services.cache import Cache

TRACES_KEPT = 500
RESULTS_KEPT = 100
# Newest finished runs among which one with the same settings is searched.
RUNS_SEARCHED = 100
# Newest finished runs on a device that correct the estimated time of a step.
RUNS_COMPARED = 3
# The key of trial runs with the settings of a run, in its preflight report.
KEY = "trial_run_key"
TRACED_PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes")
MEASURED_PACKAGES = (*TRACED_PACKAGES, *PROVIDER_PACKAGES)
# Increase when the trace counts differently, so that stored traces are not used any more.
TRACE_VERSION = "2"


class MemoryTraceStore:
    """Memory traces by their key. Thread-safe."""

    def __init__(self, home: Home) -> None:
        self._file = home.memory_traces
        self._traces: dict[str, MemoryTrace] | None = None
        self._lock = threading.Lock()

    def find(self, key: str) -> MemoryTrace | None:
        """Return the stored trace with this key, or None."""
        with self._lock:
            return self._load().get(key)

    def add(self, trace: MemoryTrace) -> None:
        """Store a trace; the oldest ones are dropped."""
        with self._lock:
            traces = self._load()
            traces[trace.key] = trace
            while len(traces) > TRACES_KEPT:
                del traces[next(iter(traces))]
            with contextlib.suppress(ForgeError):  # a trace that is not stored is made again
                write_json(self._file, {"footprints": [asdict(trace) for trace in traces.values()]})

    def _load(self) -> dict[str, MemoryTrace]:
        if self._traces is None:
            entries = (find_json(self._file) or {}).get("footprints", [])
            traces = [MemoryTrace(**entry) for entry in entries if _is_trace(entry)]
            self._traces = {trace.key: trace for trace in traces}
        return self._traces


class TrialRunResults:
    """Results of trial runs by a hash of what affects memory and step time."""

    def __init__(self, home: Home) -> None:
        self._file = home.trial_runs / "known.json"

    def find(self, key: str) -> TrialRunResult | None:
        """Return the result of an earlier trial run with this key, or None."""
        found = (find_json(self._file) or {}).get(key)
        return read_result(found) if isinstance(found, dict) else None

    def add(self, key: str, result: TrialRunResult) -> None:
        """Store a result; the oldest ones are dropped. The caller holds the start lock."""
        results = find_json(self._file) or {}
        results[key] = asdict(result)
        newest = sorted(results.items(), key=lambda item: float(item[1].get("at") or 0.0))
        write_json(self._file, dict(newest[-RESULTS_KEPT:]))


class FinishedRuns:
    """What finished runs have measured, by the key of trial runs. Thread-safe."""

    def __init__(self, home: Home, index: Index) -> None:
        self._runs = home.runs
        self._index = index
        self._keys: Cache[str, str | None] = Cache(RUNS_SEARCHED)
        self._planned: Cache[str, _PlannedStep | None] = Cache(RUNS_SEARCHED)
        self._measured: Cache[tuple[str, float], LastRun | None] = Cache(RUNS_SEARCHED)

    def find(self, key: str) -> LastRun | None:
        """Return the newest finished run with this key, or None."""
        for row in self._newest():
            read = partial(_read_key, RunFolder(self._runs / row.id))
            if self._keys.get(row.id, read) == key:
                return self._measure(row)
        return None

    def step_time_factor(self, device: Device, *, from_nothing: bool = False) -> float | None:
        """Return how many times as long as estimated a step took in the last runs on a device.

        It is the median of the newest runs, with any settings; None before the first. Trainings
        from nothing and others are apart: steps of few rows are slower than their FLOPs.
        """
        factors = (
            self._step_time_factor(row, device, from_nothing=from_nothing) for row in self._newest()
        )
        newest = list(islice((each for each in factors if each is not None), RUNS_COMPARED))
        return median(newest) if newest else None

    def _step_time_factor(self, row: RunRow, device: Device, *, from_nothing: bool) -> float | None:
        read = partial(_read_planned_step, RunFolder(self._runs / row.id))
        planned = self._planned.get(row.id, read)
        if planned is None or planned[:2] != (device, from_nothing):
            return None
        last = self._measure(row)
        return None if last is None else last.measured.seconds_per_update / planned.seconds

    def _newest(self) -> Iterator[RunRow]:
        """Yield the newest finished runs."""
        _version, settled, moving = self._index.rows()
        newest = sorted(moving, key=lambda row: row.created, reverse=True)
        finished = (row for row in (*newest, *settled) if row.state is RunState.FINISHED)
        return islice(finished, RUNS_SEARCHED)

    def _measure(self, row: RunRow) -> LastRun | None:
        compute = partial(_measure, RunFolder(self._runs / row.id), row)
        return self._measured.get((row.id, row.updated), compute)


class _PlannedStep(NamedTuple):
    """Device and kind of a run, and the seconds of a step by the formula."""

    device: str
    from_nothing: bool
    seconds: float


def _read_planned_step(folder: RunFolder) -> _PlannedStep | None:
    """Return what was planned for a run; None for a record of a version that stored less."""
    seconds = (find_json(folder.preflight) or {}).get("step_seconds")
    plan = (find_json(folder.config) or {}).get("plan")
    plan = plan if isinstance(plan, dict) else {}
    device = plan.get("device")
    if isinstance(seconds, int | float) and seconds > 0 and isinstance(device, str):
        return _PlannedStep(device, plan.get("pretraining") is not None, seconds)
    return None


def _read_key(folder: RunFolder) -> str | None:
    return (find_json(folder.preflight) or {}).get(KEY)


def _measure(folder: RunFolder, row: RunRow) -> LastRun | None:
    """Return what a finished run has measured; None for a damaged record or unmeasured steps."""
    record = find_json(folder.config) or {}
    try:
        config = TrainingConfig.from_record(record["config"])
        plan = Plan.from_dict(record["plan"], record["config"])
    except (KeyError, TypeError, ValueError):
        return None
    timeline = Timeline().add_all(iter_events(folder.events))
    timings = timeline.timings
    steps = sum(window.steps for window in timings.windows)
    if not steps:
        return None
    eval_rows = (timings.plan.eval_rows if timings.plan else None) or 0
    batches = -(-eval_rows // config.per_device_eval_batch_size)
    save = median(timings.save_seconds) if timings.save_seconds else None
    measured = TrialRunResult(
        id=folder.id,
        at=row.updated,
        peak_gib=timeline.peak_memory_gib or 0.0,
        seconds_per_update=sum(window.seconds for window in timings.windows) / steps,
        updates=timings.step,
    )
    if timings.evaluation_seconds and batches:
        each = median(timings.evaluation_seconds) / batches
        measured = replace(measured, seconds_per_eval_batch=each)
    measured = replace(measured, save_seconds=save, final_seconds=save)
    made = replace(plan, total_steps=timings.step)
    return LastRun.of(row.duration, config, made, eval_rows, measured)


def read_result(data: Mapping[str, Any]) -> TrialRunResult | None:
    """Return the result in a record; None for a record of a version that measured less."""
    required = ("id", "at", "peak_gib", "seconds_per_update")
    return TrialRunResult.from_dict(data) if all(name in data for name in required) else None


def trace_key(config: TrainingConfig, plan: Plan, facts: ModelInfo, length: int) -> str:
    """Return the key of a memory trace with a longest row of `length` tokens."""
    return memory_trace_key(config, plan, length, _architecture_hash(facts), _traced_versions())


def _is_trace(entry: Any) -> bool:
    """Return whether an entry has the fields of this version."""
    return (
        isinstance(entry, dict)
        and "key" in entry
        and entry.keys() <= MemoryTrace.__dataclass_fields__.keys()
    )


def _architecture_hash(facts: ModelInfo) -> str:
    """Return the hash of the model's config.json, or its path and commit on the Hub."""
    try:
        text = (Path(facts.path) / "config.json").read_bytes()
    except OSError:
        return f"{facts.path}@{facts.revision}"
    return hashlib.sha256(text).hexdigest()


@cache
def _traced_versions() -> dict[str, str]:
    versions = package_versions(TRACED_PACKAGES)
    installed = {name: version for name, version in versions.items() if version is not None}
    return {"edition": TRACE_VERSION, **installed}
