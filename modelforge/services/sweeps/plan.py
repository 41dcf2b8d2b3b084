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

# Parts of a plan that must be equal at all places of a sweep, as a trial may go on at another one.
SAME = (
    *("device", "precision", "quantization", "max_length", "optim", "total_steps", "eval_steps"),
    *("ranks", "rank_batch_size", "gradient_accumulation_steps"),
)


@dataclass(frozen=True)
class SweepPrice:
    """What a sweep with some settings costs: the seconds and steps of a trial, and all values.

    The seconds are those of the slowest place. `basis` is how they are known, as in a preflight
    report; `own` is by dotted name.
    """

    seconds: float
    basis: str
    total_steps: int
    own: Mapping[str, Any]


def price_of(checks: Mapping[str, PreflightResult]) -> SweepPrice:
    """Return what a trial with these settings takes, from a check for each of its places.

    Raises what the start of a sweep raises.
    """
    resolved, plan, report, _data, _facts = _require_comparable(checks)
    return SweepPrice(
        seconds=report.seconds or 0.0,
        basis=str(report.seconds_basis),
        total_steps=plan.total_steps or 0,
        own=flatten(resolved.config.model_dump(mode="json")),
    )


def new_record(
    checks: Mapping[str, PreflightResult],
    dimensions: Sequence[Dimension],
    budget_s: float,
    name: str,
    *,
    places: int,
) -> SweepRecord:
    """Return what a sweep does, from a check for each of its places.

    `places` is how many trials train at a time. Raises what the start of a run raises, and
    ConfigError.
    """
    resolved, plan, report, data, facts = _require_comparable(checks)
    seconds, total_steps = report.seconds or 0.0, plan.total_steps or 0
    _require_effect(dimensions, resolved.config)
    require_time(Price(seconds), total_steps, budget_s, places)
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
        places=tuple(checks),
    )


def _require_comparable(
    checks: Mapping[str, PreflightResult],
) -> tuple[Resolved, Plan, Report, RunData, ModelInfo]:
    """Return the parts of the slowest check.

    Raises an error if trials could not be compared or priced, at one place or between the places.
    """
    parts = [_require_priced(checked) for checked in checks.values()]
    _require_same({name: part[:2] for name, part in zip(checks, parts, strict=True)})
    return max(parts, key=lambda part: part[2].seconds or 0.0)


def _require_same(parts: Mapping[str, tuple[Resolved, Plan]]) -> None:
    """Raise ConfigError if settings and plans for several places would not train the same."""
    first, *others = parts
    expected = _decisive(*parts[first])
    for name in others:
        found = _decisive(*parts[name])
        if differing := [key for key in expected if found[key] != expected[key]]:
            key = differing[0]
            what = f"{key} is {found[key]} at {name}, and {expected[key]} at {first}."
            remedy = "Set it in the recipe, or choose places with the same hardware."
            raise ConfigError(Problem("on", what, remedy))


def _decisive(resolved: Resolved, plan: Plan) -> dict[str, Any]:
    """Return what must be equal at all places of a sweep."""
    planned = {field: getattr(plan, field) for field in SAME}
    settings = flatten(resolved.config.model_dump(mode="json"))
    return planned | {name: value for name, value in settings.items() if name not in planned}


def _require_priced(checked: PreflightResult) -> tuple[Resolved, Plan, Report, RunData, ModelInfo]:
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
