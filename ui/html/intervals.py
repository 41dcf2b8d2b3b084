"""Geometry of dot plots: a dot for each value with a line for its 95 % interval, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# The plot ends this far from its edges, in percent of its width, so that marks are not cut.
MARGIN = 2.0
MOST_TICKS = 8
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Dot:
    """A value with its interval, None where it is unknown; `tone` is base, prompted or tuned."""

    label: str
    tone: str
    value: float
    interval: tuple[float, float] | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The interval, or the value itself."""
        return self.interval or (self.value, self.value)


@dataclass(frozen=True)
class Scale:
    """The values at the left and right end of a plot, and the ticks between them."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> str:
        """Return the horizontal position of a value as a percentage, within the plot."""
        share = (value - self.low) / (self.high - self.low)
        return f"{MARGIN + (100 - 2 * MARGIN) * min(max(share, 0.0), 1.0):.1f}%"


def scale_of(dots: Sequence[Dot], *, least: float | None = None) -> Scale:
    """Return a scale with round ticks that holds all intervals; `least` is the smallest value.

    It begins at `least` where the smallest value lies in the lower half of what is shown.
    """
    low = min(end for dot in dots for end in dot.ends)
    high = max(end for dot in dots for end in dot.ends)
    if least is not None and low - least <= (high - least) / 2:
        low = least
    step = _step(high - low or abs(high) or 1.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last == first:
        last += 1
    ticks = tuple(round(step * number, 12) for number in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def _step(span: float) -> float:
    """Return a round step that divides a span into at most MOST_TICKS - 2 parts."""
    power = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    while True:
        for factor in _STEPS:
            if span / (factor * power) <= MOST_TICKS - 2:
                return factor * power
        power *= 10


def tick_labels(scale: Scale, text: Callable[[float], str]) -> list[tuple[str, str]]:
    """Return the position and the text of each tick."""
    return [(scale.place(tick), text(tick)) for tick in scale.ticks]
