"""All that preflight knows of one run, before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from modelforge.config.plan.make import Plan, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.sources.combine import RunData
from modelforge.errors import Finding
from modelforge.models.architecture import ModelInfo
from modelforge.paths import Home
from modelforge.preflight.disk import disk_needed_gib
from modelforge.preflight.memory.estimate import MemoryPart, estimate, total_gib
from modelforge.preflight.memory.traced import MemoryTrace, longest_row_tokens, traced_parts
from modelforge.preflight.plan_context import build_plan_context, train_rows
from modelforge.preflight.speed import max_tokens
from modelforge.preflight.suggest.fit import (
    FitSuggestion,
    LargestModel,
    largest_model,
    suggest_fits,
)
from modelforge.preflight.trial_run import TrialRunResult

if TYPE_CHECKING:
    from modelforge.data.checks.summary import DatasetSummary
    from modelforge.hardware.machine import Gpu, Machine


NO_DATA = RunData()


@dataclass(frozen=True)
class RunContext:
    """Config, plan, machine, model and data of one run, with the estimates made from them.

    `facts` and `look` are None where the model or the data could not be found.
    """

    config: TrainingConfig
    plan: Plan
    machine: Machine
    facts: ModelInfo | None
    look: DatasetSummary | None
    home: Home
    material: RunData = NO_DATA
    trial_run: TrialRunResult | None = None
    memory_trace: MemoryTrace | None = None
    memory: list[MemoryPart] = field(init=False)
    disk_gib: float | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", self._memory())
        needed = disk_needed_gib(self.config, self.plan, self.facts) if self.facts else None
        object.__setattr__(self, "disk_gib", needed)

    def _memory(self) -> list[MemoryPart]:
        if self.memory_trace is None:
            return self.estimate_memory(self.config, self.plan)
        length = longest_row_tokens(self.config, self.plan, self.look)
        return traced_parts(self.memory_trace, self.config, self.plan, length)

    def estimate_memory(self, config: TrainingConfig, plan: Plan) -> list[MemoryPart]:
        """Return the estimate for other settings on the same model and data."""
        if self.facts is None:
            return []
        longest = max_tokens(self.look.longest_chars) if self.look else None
        return estimate(config, plan, self.facts, longest_tokens=longest)

    def with_settings(self, settings: Mapping[str, Any]) -> RunContext:
        """Return the same run with some settings changed, by their dotted names."""
        config = self.config.with_changes(settings)
        if self.facts is None:
            return replace(self, config=config, trial_run=None, memory_trace=None)
        ground = build_plan_context(
            config,
            self.machine,
            self.facts,
            train_rows=train_rows(config, self.facts, self.material),
            look=self.look,
            start=self.plan.start_from,
        )
        return replace(
            self, config=config, plan=make_plan(config, ground), trial_run=None, memory_trace=None
        )

    @property
    def memory_total_gib(self) -> float | None:
        """The memory of the run: as a rehearsal has measured it, else the sum of the parts."""
        return self.trial_run.peak_gib if self.trial_run else total_gib(self.memory)

    @property
    def memory_basis(self) -> Literal["formula", "traced", "trial_run"] | None:
        """How the memory is known; None where it is not."""
        if self.trial_run is not None:
            return "trial_run"
        if self.memory_trace is not None:
            return "traced"
        return "formula" if self.memory else None

    @property
    def eval_rows(self) -> int:
        """About how many rows are checked on."""
        if self.material.validation:
            return sum(supply.rows for supply in self.material.validation)
        return round((self.look.rows if self.look else 0) * self.config.eval_split)

    @property
    def gpu(self) -> Gpu | None:
        """The card that the run would use; None off CUDA."""
        if self.plan.device != "cuda":
            return None
        index = self.config.hardware.gpu_index
        return next((gpu for gpu in self.machine.gpus if gpu.index == index), None)

    @property
    def available_gib(self) -> float | None:
        """Memory that is free now where the run would live: the card's, else the computer's."""
        if self.plan.device == "cuda":
            return self.gpu.free_gib if self.gpu else None
        return self.machine.ram_free_gib

    @property
    def total_memory_gib(self) -> float | None:
        """Memory that would be there if nothing else ran."""
        if self.plan.device == "cuda":
            return self.gpu.total_gib if self.gpu else None
        return self.machine.ram_total_gib

    @cached_property
    def ways(self) -> list[FitSuggestion]:
        """What makes it fit, where it does not or only just; what costs least comes first."""
        return suggest_fits(self)

    @cached_property
    def largest(self) -> LargestModel | None:
        """The largest model that fits, where this one cannot be made to."""
        total, free = self.memory_total_gib, self.available_gib
        if total is None or free is None or total <= free or self.ways:
            return None
        return largest_model(self)

    @property
    def place(self) -> str:
        """What holds the memory, in words."""
        return "GPU" if self.plan.device == "cuda" else "computer"


Check = Callable[[RunContext], Iterator[Finding]]
