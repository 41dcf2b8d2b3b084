"""What would make a run quicker: each lever with what it gives and what memory it takes.

The order is that of the largest gains first. What a lever gives is the speed of the run with it
over that without it, both worked out in `speed`; its figures come from our own bench on the CPU,
and on CUDA from what others have published: see `speed` and the constants here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from modelforge.preflight.context import RunContext
from modelforge.preflight.suggest.speedup_options import (
    CHOICES,
    Choice,
    accumulation_of,
    batch_of,
    fits,
    formula_gib,
    may_split,
    speed_of,
)

WORTH = 1.01


@dataclass(frozen=True)
class Speedup:
    """One way to be quicker, and the settings that pull it.

    `times` is the factor on useful tokens a second, `gib` the memory it takes (less than 0: it
    saves). A lever that is `on` says what it gives already.
    """

    name: str
    label: str
    settings: dict[str, Any]
    words: str
    times: float
    gib: float
    on: bool


def list_speedups(case: RunContext) -> list[Speedup]:
    """Return every lever that this run has, the largest gains first; none for an unknown speed."""
    found = [choose(case) for choose in CHOICES] if speed_of(case) else []
    return [_weighed(case, choice) for choice in found if choice is not None]


def recommended_settings(case: RunContext) -> dict[str, Any]:
    """Return the settings that are worth it together: they fit, and what is learned is the same.

    Where the run as it stands does not fit, activations are worked out again, and the batch is
    taken in parts.
    """
    answers: dict[str, Any] = {}
    now = case
    # Twice, since one lever may make another worth it: one row at a time has no padding.
    for choose in (*CHOICES, *CHOICES) if speed_of(case) else ():
        choice = choose(now)
        if choice is None or choice.on:
            continue
        lever = _weighed(now, choice)
        if lever.times >= WORTH and (lever.gib <= 0 or fits(case, now, lever.gib)):
            answers |= lever.settings
            now = now.with_settings(lever.settings)
    for settings in _savings(now):
        if fits(case, now, 0.0):
            break
        answers |= settings
        now = now.with_settings(settings)
    return answers


def tokens_per_s(case: RunContext) -> float | None:
    """Return about how many tokens without padding the run learns from in a second.

    As a rehearsal has measured it, where there was one.
    """
    measured = case.trial_run.tokens_per_s if case.trial_run else None
    speed = measured or speed_of(case)
    return round(speed, 1) if speed else None


def _weighed(case: RunContext, choice: Choice) -> Speedup:
    other = case.with_settings(choice.let_go if choice.on else choice.pulled)
    if choice.name == "loss":
        other = replace(case, plan=replace(case.plan, loss_piece=256))
    faster, slower = (case, other) if choice.on else (other, case)
    times = (speed_of(faster) or 1.0) / (speed_of(slower) or 1.0) * choice.beside
    settings = dict(choice.pulled)
    return Speedup(
        choice.name,
        choice.label,
        settings,
        choice.words,
        round(times, 2),
        round(formula_gib(faster) - formula_gib(slower), 2),
        choice.on,
    )


def _savings(case: RunContext) -> list[dict[str, Any]]:
    ways: list[dict[str, Any]] = []
    if not case.config.gradient_checkpointing:
        ways.append({"gradient_checkpointing": True})
    batch, times = case.config.per_device_train_batch_size, accumulation_of(case)
    while batch % 2 == 0 and may_split(case):
        batch, times = batch // 2, times * 2
        ways.append(batch_of(batch, times))
    return ways
