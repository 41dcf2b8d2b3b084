"""Options that make a run faster, with their gain and the memory that they take.

The gain is the ratio of two estimates (see `speed`). Its constants come from our own benchmark on
the CPU, and on CUDA from published measurements.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from modelforge.config.plan.make import DEFAULT_LOSS_PIECE
from modelforge.preflight.context import RunContext
from modelforge.preflight.suggest.speedup_options import (
    OPTIONS,
    SpeedupOption,
    batch_settings,
    estimate_speed,
    fits_with,
)

WORTHWHILE = 1.01


@dataclass(frozen=True)
class Speedup:
    """One option, and the settings that switch it on.

    Attributes:
        times: Factor on the tokens per second; for an option that is on, the factor it gives.
        gib: Memory that it takes; negative where it saves memory.
        on: Whether the run uses it.
    """

    name: str
    label: str
    settings: dict[str, Any]
    words: str
    times: float
    gib: float
    on: bool


def list_speedups(context: RunContext) -> list[Speedup]:
    """Return every option of the run; empty where its speed is unknown."""
    if not estimate_speed(context):
        return []
    options = [build(context) for build in OPTIONS]
    return [_evaluate(context, option) for option in options if option is not None]


def recommended_settings(context: RunContext) -> dict[str, Any]:
    """Return settings that are worthwhile together, fit, and do not change what is learned.

    Where the run does not fit as it is, gradient checkpointing and smaller batches are added.
    """
    settings: dict[str, Any] = {}
    current = context
    # Two passes, since one option may make another worthwhile: single rows have no padding.
    for build in (*OPTIONS, *OPTIONS) if estimate_speed(context) else ():
        option = build(current)
        if option is None or option.on:
            continue
        speedup = _evaluate(current, option)
        fits = speedup.gib <= 0 or fits_with(context, current, speedup.gib)
        if speedup.times >= WORTHWHILE and fits:
            settings |= speedup.settings
            current = current.with_settings(speedup.settings)
    for saving in _savings(current):
        if fits_with(context, current, 0.0):
            break
        settings |= saving
        current = current.with_settings(saving)
    return settings


def tokens_per_s(context: RunContext) -> float | None:
    """Return the trained tokens per second, measured by a trial run or estimated."""
    measured = context.trial_run.tokens_per_s if context.trial_run else None
    speed = measured or estimate_speed(context)
    return round(speed, 1) if speed else None


def _evaluate(context: RunContext, option: SpeedupOption) -> Speedup:
    other = context.with_settings(option.off_settings if option.on else option.on_settings)
    if option.name == "loss":
        plan = replace(context.plan, loss_piece=DEFAULT_LOSS_PIECE)
        other = replace(context, plan=plan)
    faster, slower = (context, other) if option.on else (other, context)
    times = (estimate_speed(faster) or 1.0) / (estimate_speed(slower) or 1.0) * option.factor
    return Speedup(
        option.name,
        option.label,
        dict(option.on_settings),
        option.words,
        round(times, 2),
        round(faster.formula_gib - slower.formula_gib, 2),
        option.on,
    )


def _savings(context: RunContext) -> list[dict[str, Any]]:
    savings: list[dict[str, Any]] = []
    if not context.config.gradient_checkpointing:
        savings.append({"gradient_checkpointing": True})
    batch = context.config.per_device_train_batch_size
    accumulation = context.plan.gradient_accumulation_steps
    while batch % 2 == 0 and context.plan.facts.splits_batch:
        batch, accumulation = batch // 2, accumulation * 2
        savings.append(batch_settings(batch, accumulation))
    return savings
