"""What a sweep is to do, from settings that preflight has checked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.resolve import Resolved, flatten
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.visibility import applies, describe_conditions
from modelforge.data.sources.combine import RunData
from modelforge.errors import BlockedError, ConfigError, Problem
from modelforge.models.architecture import ModelInfo
from modelforge.preflight import Report
from modelforge.services.preflight import PreflightResult
from modelforge.services.sweeps.pricing import Price, require_time
from modelforge.services.sweeps.record import SweepRecord
from modelforge.services.sweeps.space import Dimension


@dataclass(frozen=True)
class SweepPrice:
    """What a sweep with some settings costs: the seconds and steps of a trial, and all values.

    `basis` is how the seconds are known, as in a preflight report; `own` is by dotted name.
    """

    seconds: float
    basis: str
    total_steps: int
    own: Mapping[str, Any]


def price_of(checked: PreflightResult) -> SweepPrice:
    """Return what a trial with these settings takes; raises what the start of a sweep raises."""
    resolved, plan, report, _data, _facts = _require_comparable(checked)
    return SweepPrice(
        seconds=report.seconds or 0.0,
        basis=str(report.seconds_basis),
        total_steps=plan.total_steps or 0,
        own=flatten(resolved.config.model_dump(mode="json")),
    )


def new_record(
    checked: PreflightResult, dimensions: Sequence[Dimension], budget_s: float, name: str
) -> SweepRecord:
    """Return what a sweep does; raises what the start of a run raises, and ConfigError."""
    resolved, plan, report, data, facts = _require_comparable(checked)
    seconds, total_steps = report.seconds or 0.0, plan.total_steps or 0
    _require_effect(dimensions, resolved.config)
    require_time(Price(seconds), total_steps, budget_s)
    values: Mapping[str, Any] = resolved.config.model_dump(mode="json")
    own = {each.name: flatten(values)[each.name] for each in dimensions}
    now = time.time()
    return SweepRecord(
        name=name or f"{data.summary.name} · {facts.name.rpartition('/')[2]}",
        created=now,
        deadline=now + budget_s,
        settings=resolved.config.explicit_values(),
        own=own,
        dimensions=tuple(_with_own(each, own[each.name]) for each in dimensions),
        total_steps=total_steps,
        seconds=seconds,
    )


def _require_comparable(
    checked: PreflightResult,
) -> tuple[Resolved, Plan, Report, RunData, ModelInfo]:
    """Return the parts of a check; raise an error if its trials could not be compared or priced."""
    resolved, plan, report, data, facts = checked.require()
    if report.blocked:
        raise BlockedError(report.findings)
    if plan.eval_steps is None or not plan.total_steps:
        what = "The settings have no evaluation, so trials cannot be compared."
        raise ConfigError(Problem("eval_split", what, "Keep rows for evaluation: eval_split=0.1."))
    if report.seconds is None:
        what = "It is not known how long a run takes."
        raise ConfigError(Problem("budget", what, "Do a trial run first: modelforge trial-run."))
    return resolved, plan, report, data, facts


def _require_effect(dimensions: Sequence[Dimension], config: TrainingConfig) -> None:
    """Raise ConfigError if a setting that is varied has no effect with the others."""
    values = flatten(config.model_dump(mode="json"))
    for each in dimensions:
        if not applies(each.name, values):
            what = f"It has an effect only {describe_conditions(each.name)}."
            raise ConfigError(Problem(each.name, what, "Vary another setting."))


def _with_own(dimension: Dimension, own: Any) -> Dimension:
    """Return a list of values with the user's own among them."""
    if not dimension.choices or own in dimension.choices:
        return dimension
    return Dimension(dimension.name, choices=(*dimension.choices, own))
