"""The answer of preflight: findings, memory, time and disk of one run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig
from modelforge.data.together import Material
from modelforge.errors import Finding
from modelforge.home import Home
from modelforge.models.shape import ModelFacts
from modelforge.preflight.case import NO_MATERIAL, Case
from modelforge.preflight.checks import findings
from modelforge.preflight.levers import Lever, levers, recommended, tokens_per_s
from modelforge.preflight.memory import MemoryPart, total_gib
from modelforge.preflight.time import estimate_seconds

if TYPE_CHECKING:
    from modelforge.data.look import FirstLook
    from modelforge.machine import Machine


@dataclass(frozen=True)
class Report:
    """What is to be said before the start. Every number is about right; None is unknown.

    `tokens_per_s` counts no padding; `recommended` are the answers of the levers that are worth
    it together.
    """

    findings: list[Finding]
    memory: list[MemoryPart]
    memory_total_gib: float | None
    memory_available_gib: float | None
    seconds: float | None
    updates: int | None
    disk_needed_gib: float | None
    disk_free_gib: float | None
    tokens_per_s: float | None = None
    levers: list[Lever] = field(default_factory=list)
    recommended: dict[str, Any] = field(default_factory=dict)

    @property
    def blocked(self) -> bool:
        """Say whether a finding forbids the start."""
        return any(finding.level == "blocker" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**asdict(self), "blocked": self.blocked}


def preflight(
    config: TrainingConfig,
    plan: Plan,
    machine: Machine,
    facts: ModelFacts | None,
    look: FirstLook | None,
    home: Home,
    material: Material = NO_MATERIAL,
) -> Report:
    """Return what is to be said of a run before it starts. Pure; touches neither disk nor device.

    `look` is all of `material` as one. `facts` or `look` is None where the model or the data
    could not be found: what depends on it is left out, and whoever looked for it has the problem.
    """
    case = Case(config, plan, machine, facts, look, home, material)
    seconds = estimate_seconds(config, plan, machine, facts, look) if facts and look else None
    return Report(
        findings=findings(case),
        memory=case.memory,
        memory_total_gib=total_gib(case.memory),
        memory_available_gib=case.available_gib,
        seconds=seconds,
        updates=plan.total_steps,
        disk_needed_gib=case.disk_gib,
        disk_free_gib=machine.disk_free_gib,
        tokens_per_s=tokens_per_s(case),
        levers=levers(case),
        recommended=recommended(case),
    )
