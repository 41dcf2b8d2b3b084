"""The result of preflight: findings, memory, duration and disk space of one run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from modelforge.config.schema.base import Gib, about
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

MemoryBasis = Literal["formula", "traced", "trial_run"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Findings and estimates of a run; the numbers are approximate, None is unknown."""

    findings: Annotated[list[Finding], about("Findings; a blocker prevents the start.")] = field(
        default_factory=list
    )
    memory: Annotated[list[MemoryPart], about("The parts of the memory that the run needs.")] = (
        field(default_factory=list)
    )
    memory_total_gib: Gib = None
    memory_available_gib: Gib = None
    seconds: Annotated[float | None, about("Estimated duration in seconds.")] = None
    seconds_basis: Annotated[
        Literal["estimated", "trial_run"] | None,
        about("Whether the duration was estimated or measured in a trial run."),
    ] = None
    memory_basis: Annotated[
        MemoryBasis | None,
        about("Whether the memory was estimated, traced or measured in a trial run."),
    ] = None
    trial_run: Annotated[
        dict[str, Any] | None,
        about("The result of a trial run with these settings, if there was one."),
    ] = None
    updates: Annotated[int | None, about("The number of steps of the run.")] = None
    disk_needed_gib: Gib = None
    disk_free_gib: Gib = None
    ways: Annotated[
        list[FitSuggestion],
        about("Changes that make a run fit in memory, the least costly first."),
    ] = field(default_factory=list)
    largest_model: Annotated[
        str | None, about("If no change makes it fit: the largest model that fits.")
    ] = None
    largest_settings: Annotated[
        dict[str, Any], about("The settings for that model, including its name.")
    ] = field(default_factory=dict)
    tokens_per_s: Annotated[
        float | None, about("Estimated training speed in tokens per second, without padding.")
    ] = None
    levers: Annotated[
        list[Speedup],
        about(
            "Speed optimizations: `settings` switches one on, `times` is the factor on "
            "`tokens_per_s`, `gib` the extra memory, `on` whether it is in use already."
        ),
    ] = field(default_factory=list)
    recommended: Annotated[
        dict[str, Any],
        about("All worthwhile speed optimizations together, as settings by dotted name."),
    ] = field(default_factory=dict)
    recommended_times: Annotated[
        float | None, about("The factor on `tokens_per_s` of the recommended settings.")
    ] = None

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
