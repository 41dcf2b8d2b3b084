"""Which phase a training is in, read off its losses: warm-up, converging, plateau, and worse."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

from modelforge.diagnosis.trend import Trend, trend

Phase = Literal["warm-up", "converging", "plateau", "unstable", "diverging"]

WINDOW = 100
FEWEST = 12
# A plateau is a claim about a while, not about a dozen updates.
FEWEST_FLAT = 40
FALLS, RISES = 0.01, 0.10
JUMPY, JUMPIER = 0.25, 2.0
# A phase is told once it has held for this many looks, and no sooner than this after the last.
HELD, APART = 10, 40
PART, CLEARLY = 4, 3.0


@dataclass
class LossPhaseTracker:
    """Follows the losses and says when another phase has begun; what is told once is not again."""

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    now: Phase = "warm-up"
    seems: Phase = "warm-up"
    looks: int = 0
    since: int = 0

    def take(self, loss: float, *, warm: bool) -> tuple[Phase, Trend] | None:
        """Take in one loss; return the phase that has begun with it and where the loss went."""
        self.losses.append(loss)
        self.since += 1
        values = list(self.losses)
        found = phase_of(values, warm=warm)
        if found is None:
            return None
        self.looks = self.looks + 1 if found == self.seems else 1
        self.seems = found
        way = trend(values, fewest=2, parts=PART)
        if found == self.now or self.looks < HELD or way is None:
            return None
        if self.since < APART and self.now != "warm-up":
            return None
        self.now, self.since = found, 0
        return found, way

    def as_dict(self) -> dict[str, Any]:
        """Return all that is known, ready for JSON."""
        plain = {name: getattr(self, name) for name in ("now", "seems", "looks", "since")}
        return {**plain, "losses": list(self.losses)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LossPhaseTracker:
        """Return what `as_dict` gave."""
        known = {name: data[name] for name in ("now", "seems", "looks", "since") if name in data}
        return cls(losses=deque(data.get("losses", ()), maxlen=WINDOW), **known)


def phase_of(losses: Sequence[float], *, warm: bool) -> Phase | None:
    """Return the phase that these losses show, or None while nothing can be said."""
    if warm:
        return "warm-up"
    if len(losses) < FEWEST:
        return None
    way = trend(losses, parts=PART)
    if way is None:
        return None
    is_clear = way.z >= CLEARLY
    if is_clear and way.end > way.start and way.relative_change >= RISES:
        return "diverging"
    half = len(losses) // 2
    before, after = _jumps(losses[:half]), _jumps(losses[half:])
    if after > JUMPY * abs(fmean(losses)) and after > JUMPIER * max(before, 1e-9):
        return "unstable"
    if is_clear and way.end < way.start and way.relative_change >= FALLS:
        return "converging"
    return "plateau" if len(losses) >= FEWEST_FLAT else None


def _jumps(losses: Sequence[float]) -> float:
    """Return by how much neighbours differ, as a standard deviation of one of them."""
    if len(losses) < 2:
        return 0.0
    return math.sqrt(fmean((b - a) ** 2 for a, b in pairwise(losses)) / 2)


def in_words(phase: Phase, way: Trend, updates: int) -> str:
    """Return what a phase means, as a person is told while the run goes on."""
    moved = f"from {way.start:.2f} to {way.end:.2f} over the last {updates:,} updates"
    return {
        "warm-up": "Warming up: the learning rate still rises, and the loss says little yet.",
        "converging": f"Converging: the loss falls, {moved}.",
        "plateau": f"On a plateau: the loss has stayed near {way.end:.2f} for {updates:,} updates. "
        "Stopping now would lose little.",
        "unstable": "Unstable: the loss jumps more than before. A lower learning rate or a larger "
        "batch would be steadier.",
        "diverging": f"Diverging: the loss rises, {moved}. Unless it comes down soon, stop and "
        "lower the learning rate.",
    }[phase]
