"""The result of preflight: findings, memory, duration and disk space of one run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from modelforge.config.plan.make import Plan
from modelforge.config.schema.base import Gib, about
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Finding
from modelforge.models.architecture import ModelInfo
from modelforge.preflight.checks.run import run_checks
from modelforge.preflight.context import RunContext
from modelforge.preflight.disk import disk_needed_gib
from modelforge.preflight.duration import core_seconds, estimate_seconds, longest_seconds
from modelforge.preflight.evaluation_time import evaluation_seconds
from modelforge.preflight.memory.estimate import MemoryPart, mean_bits, quantized_bits
from modelforge.preflight.merging import merge_seconds
from modelforge.preflight.speed import estimate_step
from modelforge.preflight.stages import (
    StageEstimate,
    at_once_gib,
    stage_estimates,
    step_seconds,
)
from modelforge.preflight.suggest.fit import FitSuggestion, search_fit
from modelforge.preflight.suggest.speedups import (
    Speedup,
    estimate_speed,
    list_speedups,
    recommended_settings,
    tokens_per_s,
)
from modelforge.preflight.trial_run import TrialRunResult
from modelforge.units import human_number

BitCounter = Callable[[TrainingConfig, Plan, ModelInfo], float | None]
MemoryBasis = Literal["formula", "traced", "trial_run"]
SecondsBasis = Literal["estimated", "earlier_runs", "trial_run", "last_run"]


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
    quantized_bits: Annotated[
        float | None,
        about("Bits per weight of the quantized layers, with their scales; null without any."),
    ] = None
    weight_bits: Annotated[
        float | None,
        about("Mean bits per weight of the base model, with the layers that are not quantized."),
    ] = None
    seconds: Annotated[float | None, about("Estimated duration in seconds.")] = None
    seconds_basis: Annotated[
        SecondsBasis | None,
        about(
            "Whether the duration was estimated, estimated and corrected by earlier runs on this "
            "device, measured in a trial run, or measured in the last run with these settings."
        ),
    ] = None
    seconds_longest: Annotated[
        float | None,
        about(
            "How long the run may take on a CPU whose speed no run has measured; null elsewhere."
        ),
    ] = None
    evaluation_seconds: Annotated[
        float | None,
        about(
            "Estimated seconds of the evaluation at the end, which follow those of the run; null "
            "without `evaluation.report`."
        ),
    ] = None
    step_seconds: Annotated[
        float | None, about("Seconds of a step by the formula, without `step_time_factor`.")
    ] = None
    step_time_factor: Annotated[
        float | None,
        about(
            "How many times as long as by the formula a step took in the last runs on this "
            "device; null before the first."
        ),
    ] = None
    memory_basis: Annotated[
        MemoryBasis | None,
        about("Whether the memory was estimated, traced or measured in a trial run."),
    ] = None
    trial_run: Annotated[
        dict[str, Any] | None,
        about("The result of a trial run with these settings, if there was one."),
    ] = None
    last_run: Annotated[
        dict[str, Any] | None,
        about(
            "The newest finished run with these settings on this computer: its measurements, "
            "its duration `run_seconds` and its steps `run_steps`."
        ),
    ] = None
    updates: Annotated[int | None, about("The number of steps of the run.")] = None
    length_by: Annotated[str | None, about("The setting that decides the length of the run.")] = (
        None
    )
    epochs: Annotated[float | None, about("Passes over the training rows.")] = None
    other_steps: Annotated[
        dict[str, int],
        about(
            "In a training from nothing: the steps that the settings of the length which do not "
            "decide would give, by their dotted names."
        ),
    ] = field(default_factory=dict)
    stages: Annotated[
        list[StageEstimate], about("The stages of a growing model; empty for others.")
    ] = field(default_factory=list)
    at_once_gib: Annotated[
        Gib, about("Memory of a growing model that gets all its new layers in one stage.")
    ] = None
    tokens: Annotated[int | None, about("Tokens that are read, without padding.")] = None
    flops: Annotated[
        float | None, about("Floating point operations, without recomputed activations.")
    ] = None
    reward_updates: Annotated[
        int | None,
        about("The steps of a stage before, which trains a reward model; null without one."),
    ] = None
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


def length_text(epochs: float | None, tokens: float | None, flops: float | None) -> str:
    """Return the length of a run in epochs, tokens and FLOPs; empty while it is unknown."""
    parts = [f"{epochs:,.4g}"] if epochs else []
    if parts and tokens:
        parts.append(f"about {rounded(tokens):,} tokens")
    if parts and flops:
        parts.append(f"{human_number(flops)} FLOP")
    return ", ".join(parts)


def rounded(value: float, digits: int = 2) -> int:
    """Return a whole number of as many digits that differ from 0, for an estimate."""
    places = digits - 1 - math.floor(math.log10(max(1.0, value)))
    return int(round(value, min(0, places)))


def preflight(context: RunContext) -> Report:
    """Return the report of a run. Pure: accesses neither disk nor device."""
    seconds, basis = _seconds(context)
    fit = search_fit(context)
    recommended = recommended_settings(context)
    return Report(
        findings=run_checks(context, fit),
        memory=context.memory,
        memory_total_gib=context.memory_total_gib,
        memory_available_gib=context.available_gib,
        quantized_bits=_bits(context, quantized_bits),
        weight_bits=_bits(context, mean_bits),
        seconds=seconds,
        updates=context.plan.total_steps,
        length_by=context.plan.length_by,
        other_steps=_other_steps(context),
        epochs=context.plan.epochs,
        stages=stage_estimates(context),
        at_once_gib=at_once_gib(context),
        tokens=context.plan.tokens,
        flops=context.plan.flops,
        reward_updates=context.plan.reward_steps,
        disk_needed_gib=disk_needed_gib(context.config, context.plan, context.model),
        disk_free_gib=context.machine.disk_free_gib,
        ways=fit.suggestions,
        largest_model=fit.largest.name if fit.largest else None,
        largest_settings=fit.largest.settings if fit.largest else {},
        memory_basis=context.memory_basis,
        seconds_basis=basis if seconds else None,
        seconds_longest=longest_seconds(context) if basis == "estimated" else None,
        evaluation_seconds=evaluation_seconds(context),
        step_seconds=step_seconds(context),
        step_time_factor=context.step_time_factor,
        trial_run=_as_dict(context, context.trial_run),
        last_run=_last_run(context),
        tokens_per_s=tokens_per_s(context),
        levers=list_speedups(context),
        recommended=recommended,
        recommended_times=_speedup_factor(context, recommended),
    )


def _other_steps(context: RunContext) -> dict[str, int]:
    planned = context.plan.pretraining
    return dict(planned.other_steps) if planned else {}


def _bits(context: RunContext, count: BitCounter) -> float | None:
    """Return the bits of weights, rounded; None while the model is unknown."""
    if context.model is None:
        return None
    bits = count(context.config, context.plan, context.model)
    return None if bits is None else round(bits, 3)


def _seconds(context: RunContext) -> tuple[float | None, SecondsBasis]:
    """Return the duration by the newer of last run and trial run, else an estimate."""
    trial, last = context.trial_run, context.last_run.measured if context.last_run else None
    by_last, by_trial = _measured_seconds(context, last), _measured_seconds(context, trial)
    if last and by_last is not None and (trial is None or trial.at < last.at):
        return by_last, "last_run"
    if by_trial is not None:
        return by_trial, "trial_run"
    return estimate_seconds(context), "earlier_runs" if context.step_time_factor else "estimated"


def _measured_seconds(context: RunContext, result: TrialRunResult | None) -> float | None:
    if result is None:
        return None
    merging = merge_seconds(context.config, context.plan, context.model)
    seconds = result.seconds(context.config, context.plan, context.eval_rows)
    if seconds is None:
        return None
    # The measurements of a whole run have the time of its scores in them.
    core = _trial_core_seconds(context, result) if result is context.trial_run else 0.0
    return seconds + merging + core


def _trial_core_seconds(context: RunContext, trial: TrialRunResult) -> float:
    """Return the time of scoring on CORE, which a trial run does not do, at its speed."""
    step = estimate_step(context)
    slower = trial.seconds_per_update / step.seconds if step else 1.0
    return core_seconds(context) * slower


def _as_dict(context: RunContext, result: TrialRunResult | None) -> dict[str, Any] | None:
    """Return measurements as plain data, with the duration that they predict."""
    if result is None:
        return None
    return {**asdict(result), "seconds": _measured_seconds(context, result)}


def _last_run(context: RunContext) -> dict[str, Any] | None:
    last = context.last_run
    if last is None:
        return None
    measured = _as_dict(context, last.measured) or {}
    return {**measured, "run_seconds": last.seconds, "run_steps": last.steps}


def _speedup_factor(context: RunContext, settings: dict[str, Any]) -> float | None:
    """Return the factor on the speed that the settings give; None where it is unknown."""
    # Both are estimates: a trial run measures only the present settings.
    before = estimate_speed(context)
    after = estimate_speed(context.with_settings(settings)) if settings else None
    return round(after / before, 2) if before and after else None
