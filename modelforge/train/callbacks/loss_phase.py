"""Classify the phase of a training by its losses: warm-up, converging, plateau or worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Literal

from modelforge.diagnosis.trend import Trend, trend

Phase = Literal["warm-up", "converging", "plateau", "unstable", "diverging"]

WINDOW = 100
MIN_LOSSES = 12
# A plateau needs more evidence than a dozen values.
MIN_PLATEAU_LOSSES = 40
# Relative change of the loss that counts as falling or rising.
MIN_FALL, MIN_RISE = 0.01, 0.10
# Jumps relative to the mean loss, and relative to earlier jumps, that count as unstable.
MIN_JUMP, MIN_JUMP_GROWTH = 0.25, 2.0
# A phase is reported after it was seen this many times, and this long after the last report.
MIN_SEEN, MIN_DISTANCE = 10, 40
PARTS, MIN_Z = 4, 3.0


@dataclass
class LossPhaseTracker:
    """Follows the losses and reports when a new phase has begun.

    `now` is the phase reported last; `seems` was seen in the newest `looks` losses.
    """

    losses: list[float] = field(default_factory=list)
    now: Phase = "warm-up"
    seems: Phase = "warm-up"
    looks: int = 0
    since: int = 0

    def add(self, loss: float, *, warm: bool) -> tuple[Phase, Trend] | None:
        """Add a loss; return the phase that has begun with it and the trend of the loss."""
        self.losses = [*self.losses, loss][-WINDOW:]
        self.since += 1
        phase = classify_phase(self.losses, warm=warm)
        if phase is None:
            return None
        self.looks = self.looks + 1 if phase == self.seems else 1
        self.seems = phase
        change = trend(self.losses, fewest=2, parts=PARTS)
        if phase == self.now or self.looks < MIN_SEEN or change is None:
            return None
        if self.since < MIN_DISTANCE and self.now != "warm-up":
            return None
        self.now, self.since = phase, 0
        return phase, change


def classify_phase(losses: Sequence[float], *, warm: bool) -> Phase | None:
    """Return the phase that these losses show, or None with too few of them."""
    if warm:
        return "warm-up"
    if len(losses) < MIN_LOSSES:
        return None
    change = trend(losses, parts=PARTS)
    if change is None:
        return None
    is_clear = change.z >= MIN_Z
    if is_clear and change.end > change.start and change.relative_change >= MIN_RISE:
        return "diverging"
    half = len(losses) // 2
    before, after = _jumps(losses[:half]), _jumps(losses[half:])
    is_large = after > MIN_JUMP * abs(fmean(losses))
    if is_large and after > MIN_JUMP_GROWTH * max(before, 1e-9):
        return "unstable"
    if is_clear and change.end < change.start and change.relative_change >= MIN_FALL:
        return "converging"
    return "plateau" if len(losses) >= MIN_PLATEAU_LOSSES else None


def _jumps(losses: Sequence[float]) -> float:
    """Return the standard deviation of a loss, estimated from differences of neighbours."""
    if len(losses) < 2:
        return 0.0
    return math.sqrt(fmean((b - a) ** 2 for a, b in pairwise(losses)) / 2)


def phase_message(phase: Phase, change: Trend, steps: int) -> str:
    """Return the message for a phase that has begun."""
    moved = f"from {change.start:.2f} to {change.end:.2f} over the last {steps:,} steps"
    return {
        "warm-up": "Warming up: the learning rate still rises, so the loss is not conclusive yet.",
        "converging": f"Converging: the loss falls, {moved}.",
        "plateau": f"Plateau: the loss has stayed near {change.end:.2f} for {steps:,} steps. "
        "Stopping now would lose little.",
        "unstable": "Unstable: the loss varies more than before. A lower learning rate or a larger "
        "batch would be steadier.",
        "diverging": f"Diverging: the loss rises, {moved}. Unless it falls soon, stop and lower "
        "the learning rate.",
    }[phase]
