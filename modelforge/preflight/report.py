"""The answer of preflight: findings, memory, time and disk of one run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.sources.combine import RunData
from modelforge.errors import Finding
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home
from modelforge.preflight.checks.run import findings
from modelforge.preflight.context import NO_DATA, RunContext
from modelforge.preflight.memory.estimate import MemoryPart
from modelforge.preflight.memory.traced import MemoryTrace
from modelforge.preflight.speed import estimate_seconds
from modelforge.preflight.suggest.fit import FitSuggestion
from modelforge.preflight.suggest.speedup_options import speed_of
from modelforge.preflight.suggest.speedups import (
    Speedup,
    list_speedups,
    recommended_settings,
    tokens_per_s,
)
from modelforge.preflight.trial_run import TrialRunResult

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.hardware.machine import Machine


@dataclass(frozen=True)
class Report:
    """What is to be said before the start. Every number is about right; None is unknown.

    `ways` make a run fit that does not, or only just, the first of them at the least cost. Where
    nothing does, `largest_model` is the largest of the catalogue that fits, and
    `largest_settings` are what is set for it, its name among them. `tokens_per_s` counts no
    padding; `recommended` are the answers of the levers that are worth it together,
    and `recommended_times` the factor on `tokens_per_s` that they come to.
    """

    findings: list[Finding]
    memory: list[MemoryPart]
    memory_total_gib: float | None
    memory_available_gib: float | None
    seconds: float | None
    updates: int | None
    disk_needed_gib: float | None
    disk_free_gib: float | None
    ways: list[FitSuggestion] = field(default_factory=list)
    largest_model: str | None = None
    largest_settings: dict[str, Any] = field(default_factory=dict)
    memory_basis: Literal["formula", "traced", "trial_run"] | None = None
    seconds_basis: Literal["estimated", "trial_run"] | None = None
    trial_run: dict[str, Any] | None = None
    tokens_per_s: float | None = None
    levers: list[Speedup] = field(default_factory=list)
    recommended: dict[str, Any] = field(default_factory=dict)
    recommended_times: float | None = None

    @property
    def blocked(self) -> bool:
        """Say whether a finding forbids the start."""
        return any(finding.level == "blocker" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**asdict(self), "blocked": self.blocked}


def preflight(  # noqa: PLR0913 - all that it judges, each by its name
    config: TrainingConfig,
    plan: Plan,
    machine: Machine,
    facts: ModelInfo | None,
    look: DatasetSummary | None,
    home: Home,
    material: RunData = NO_DATA,
    trial_run: TrialRunResult | None = None,
    footprint: MemoryTrace | None = None,
) -> Report:
    """Return what is to be said of a run before it starts. Pure; touches neither disk nor device.

    `look` is all of `material` as one. `facts` or `look` is None where the model or the data
    could not be found: what depends on it is left out, and whoever looked for it has the problem.
    A `trial_run` has measured, and a `footprint` traced, what else is estimated.
    """
    case = RunContext(config, plan, machine, facts, look, home, material, trial_run, footprint)
    seconds = estimate_seconds(config, plan, machine, facts, look) if facts and look else None
    measured = trial_run.seconds(config, plan, case.eval_rows) if trial_run else None
    advised = recommended_settings(case)
    return Report(
        findings=findings(case),
        memory=case.memory,
        memory_total_gib=case.memory_total_gib,
        memory_available_gib=case.available_gib,
        seconds=seconds if measured is None else measured,
        updates=plan.total_steps,
        disk_needed_gib=case.disk_gib,
        disk_free_gib=machine.disk_free_gib,
        ways=case.ways,
        **_largest(case),
        memory_basis=case.memory_basis,
        seconds_basis="trial_run" if measured is not None else "estimated" if seconds else None,
        trial_run=_told(trial_run, measured),
        tokens_per_s=tokens_per_s(case),
        levers=list_speedups(case),
        recommended=advised,
        recommended_times=_factor(case, advised),
    )


def _largest(case: RunContext) -> dict[str, Any]:
    found = case.largest
    return {"largest_model": found.name, "largest_settings": found.settings} if found else {}


def _factor(case: RunContext, settings: dict[str, Any]) -> float | None:
    """Return how many times as fast a run is with these settings; None when nobody knows."""
    # Both by arithmetic: a trial_run has measured the one and knows nothing of the other.
    before, after = speed_of(case), speed_of(case.with_settings(settings)) if settings else None
    return round(after / before, 2) if before and after else None


def _told(trial_run: TrialRunResult | None, seconds: float | None) -> dict[str, Any] | None:
    return None if trial_run is None else trial_run.as_dict() | {"seconds": seconds}
