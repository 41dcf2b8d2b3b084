"""One stage of a run, or the whole of a run that has none: its updates and what they measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from modelforge.runs.downsample import Point, Trace

SERIES = ("loss", "learning_rate", "tokens_per_s", "cpu_percent", "gpu_percent")
Curves = dict[str, Trace]


@dataclass
class Stretch:
    """One stage of a run, or the whole of a run that has none: its updates and their numbers.

    `metrics` is measured while training, `held` on held-out rows, both by the trainer's names.
    Curves are traces: however long the run, they keep few points.
    """

    number: int = 1
    name: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    epoch: float | None = None
    series: Curves = field(default_factory=lambda: {name: Trace() for name in SERIES})
    evals: Trace = field(default_factory=Trace)
    metrics: Curves = field(default_factory=dict)
    held: Curves = field(default_factory=dict)
    best: Point | None = None
    first: tuple[int, float] | None = None

    def cut(self, step: int) -> None:
        """Forget what came after an update: the run went on from there."""
        for trace in (
            self.evals,
            *(
                trace
                for curves in (self.series, self.metrics, self.held)
                for trace in curves.values()
            ),
        ):
            trace.cut(step)
        if self.best is not None and self.best[0] > step:
            self.best = min(self.evals, key=lambda point: point[1], default=None)
        self.step, self.first = min(self.step, step), None

    @property
    def total_steps(self) -> int | None:
        """Return how many updates there will be."""
        return self.plan.get("total_steps")

    @property
    def share(self) -> float | None:
        """Return how much of its updates are made, from 0 to 1; None when nobody knows."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else None

    def last(self, name: str) -> float | None:
        """Return the newest value of a series, or of what else was measured while training."""
        points = self.evals if name == "eval" else self.series.get(name) or self.metrics.get(name)
        return points[-1][1] if points else None

    def last_held(self, name: str) -> float | None:
        """Return the newest value that was measured on held-out rows."""
        points = self.held.get(name)
        return points[-1][1] if points else None


def measured(curves: Curves, step: int, told: object, names: Sequence[str] | None = None) -> None:
    """Add what was measured at an update to the curves; what is no number is left out."""
    if not isinstance(told, dict):
        return
    for name in names or told:
        value = told.get(name)
        if isinstance(value, (float, int)) and isfinite(value):
            trace = curves.get(name)
            if trace is None:
                trace = curves[str(name)] = Trace()
            trace.append((step, float(value)))
