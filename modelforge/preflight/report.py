"""The result of preflight: findings, memory, duration and disk space of one run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from modelforge.errors import Finding
from modelforge.preflight.checks.run import run_checks
from modelforge.preflight.context import RunContext
from modelforge.preflight.disk import disk_needed_gib
from modelforge.preflight.memory.estimate import MemoryPart
from modelforge.preflight.speed import estimate_seconds
from modelforge.preflight.suggest.fit import FitSuggestion, search_fit
from modelforge.preflight.suggest.speedups import (
    Speedup,
    estimate_speed,
    list_speedups,
    recommended_settings,
    tokens_per_s,
)


@dataclass(frozen=True)
class Report:
    """Findings and estimates of a run; the numbers are approximate, None is unknown.

    Attributes:
        updates: Optimizer steps of the run.
        ways: Suggestions that make a run fit, the cheapest first.
        largest_model: Where nothing makes it fit: the largest model of the catalog that fits.
        largest_settings: The settings for that model, its name among them.
        tokens_per_s: Trained tokens per second, padding not counted.
        levers: Options that make the run faster, or would.
        recommended: The settings of all options that are worthwhile together.
        recommended_times: The factor of `recommended` on `tokens_per_s`.
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
        """Whether a finding prevents the start."""
        return any(finding.level == "blocker" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**asdict(self), "blocked": self.blocked}


def preflight(context: RunContext) -> Report:
    """Return the report of a run. Pure: accesses neither disk nor device."""
    measured = _measured_seconds(context)
    seconds = estimate_seconds(context) if measured is None else measured
    basis: Literal["estimated", "trial_run"] = "estimated" if measured is None else "trial_run"
    fit = search_fit(context)
    recommended = recommended_settings(context)
    return Report(
        findings=run_checks(context, fit),
        memory=context.memory,
        memory_total_gib=context.memory_total_gib,
        memory_available_gib=context.available_gib,
        seconds=seconds,
        updates=context.plan.total_steps,
        disk_needed_gib=disk_needed_gib(context.config, context.plan, context.model),
        disk_free_gib=context.machine.disk_free_gib,
        ways=fit.suggestions,
        largest_model=fit.largest.name if fit.largest else None,
        largest_settings=fit.largest.settings if fit.largest else {},
        memory_basis=context.memory_basis,
        seconds_basis=basis if seconds else None,
        trial_run={**asdict(context.trial_run), "seconds": measured} if context.trial_run else None,
        tokens_per_s=tokens_per_s(context),
        levers=list_speedups(context),
        recommended=recommended,
        recommended_times=_speedup_factor(context, recommended),
    )


def _measured_seconds(context: RunContext) -> float | None:
    if context.trial_run is None:
        return None
    return context.trial_run.seconds(context.config, context.plan, context.eval_rows)


def _speedup_factor(context: RunContext, settings: dict[str, Any]) -> float | None:
    """Return the factor on the speed that the settings give; None where it is unknown."""
    # Both are estimates: a trial run measures only the present settings.
    before = estimate_speed(context)
    after = estimate_speed(context.with_settings(settings)) if settings else None
    return round(after / before, 2) if before and after else None
