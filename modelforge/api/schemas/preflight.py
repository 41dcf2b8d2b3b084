"""Responses about a run before it starts: preflight, memory, recommendations and trial runs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from modelforge.api.schemas.errors import about
from modelforge.api.schemas.system import Gib
from modelforge.config.plan.make import Plan
from modelforge.errors import Finding, Problem
from modelforge.preflight.memory.estimate import MemoryPart
from modelforge.preflight.suggest.fit import FitSuggestion
from modelforge.preflight.suggest.speedups import Speedup
from modelforge.preflight.trial_run import TrialRunResult
from modelforge.runs.states import RunState

MemoryBasis = Literal["formula", "traced", "trial_run"]


class MemoryInfo(BaseModel):
    """The memory of a run by part."""

    memory: list[MemoryPart] = about("The parts at the time of peak memory.")
    memory_total_gib: Gib = None
    memory_available_gib: Gib = None
    memory_basis: MemoryBasis | None = about(
        "How the memory is known: by formula, traced by the training code, or from a trial run."
    )


class Preflight(BaseModel):
    """The result of checking settings. Memory and time are estimates."""

    ready: bool = about("Whether the run can be started.")
    blocked: bool = Field(False, description="Whether a finding blocks the start.")
    problems: list[Problem] = about("Errors in the settings, the model or the data.")
    findings: list[Finding] = about("Findings; a blocker prevents the start.")
    memory: list[MemoryPart] = about("The parts of the memory that the run needs.")
    memory_total_gib: Gib = None
    memory_available_gib: Gib = None
    seconds: float | None = Field(None, description="Estimated duration in seconds.")
    seconds_basis: Literal["estimated", "trial_run"] | None = Field(
        None, description="Whether the duration was estimated or measured in a trial run."
    )
    memory_basis: MemoryBasis | None = Field(
        None, description="Whether the memory was estimated, traced or measured in a trial run."
    )
    trial_run: dict[str, Any] | None = Field(
        None, description="The result of a trial run with these settings, if there was one."
    )
    updates: int | None = Field(None, description="The number of steps of the run.")
    disk_needed_gib: Gib = None
    disk_free_gib: Gib = None
    ways: list[FitSuggestion] = Field(
        [],
        description="Changes that make a run fit in memory, the least costly first.",
    )
    largest_model: str | None = Field(
        None, description="If no change makes it fit: the largest model that fits."
    )
    largest_settings: dict[str, Any] = Field(
        {}, description="The settings for that model, including its name."
    )
    tokens_per_s: float | None = Field(
        None, description="Estimated training speed in tokens per second, without padding."
    )
    levers: list[Speedup] = Field(
        [],
        description="Speed optimizations: `settings` switches one on, `times` is the factor on "
        "`tokens_per_s`, `gib` the extra memory, `on` whether it is in use already.",
    )
    recommended: dict[str, Any] = Field(
        {}, description="All worthwhile speed optimizations together, as settings by dotted name."
    )
    recommended_times: float | None = Field(
        None, description="The factor on `tokens_per_s` of the recommended settings."
    )
    plan: Plan | None = about("The effective settings, with a reason for every change.")


class Recommended(BaseModel):
    """Settings that make a run faster without changing what is learned."""

    answers: dict[str, Any] = about("Settings by dotted name; empty if none is worthwhile.")


class TrialRun(BaseModel):
    """A trial run: its state and its measurements."""

    id: str
    name: str = about("The dataset and the model.")
    state: RunState
    began: float = about("Unix seconds.")
    phase: str = about("The current phase as text.")
    done: int | None
    total: int | None
    trial_run: TrialRunResult | None = about("The measurements; null until it has finished.")
    ending: dict[str, Any] | None = about("The final event: `kind`, and the cause of a failure.")
    notes: list[str] = Field([], description="Notes of the worker.")
