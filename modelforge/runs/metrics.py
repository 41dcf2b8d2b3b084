"""All metrics of a run, every point kept: for comparisons, exports and the REST interface."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, overload

from modelforge.runs.downsample import MOST_POINTS, Curve, Point, decimate
from modelforge.runs.event_types import EvalEvent, StepEvent
from modelforge.runs.events import iter_events
from modelforge.runs.timeline import SERIES, Stage, Timeline

AXES = ("step", "tokens", "seconds")
# What every reported step has besides its number.
COLUMNS = ("epoch", "tokens", "seconds")


class FullCurve(Curve):
    """A curve that keeps every point, in two arrays."""

    __slots__ = ("x", "y")

    def __init__(self) -> None:
        self.x = array("d")
        self.y = array("d")

    def append(self, point: Point) -> None:
        """Add a point at the end."""
        x, y = point
        self.x.append(x)
        self.y.append(y)

    def cut(self, x: float) -> None:
        """Drop the points beyond `x`."""
        keep = bisect_right(self.x, x)
        del self.x[keep:], self.y[keep:]

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[Point]:
        return iter(zip(self.x, self.y, strict=True))

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> list[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | list[Point]:
        if isinstance(index, slice):
            return list(zip(self.x[index], self.y[index], strict=True))
        return self.x[index], self.y[index]


class MeasuredStage(Stage):
    """A stage with all its points.

    `axes` has the epoch at every reported step, and the tokens and the seconds of training until
    then; evaluations and pauses do not count. `steps` has the number of each. They start at the
    step that training continues from, which another run may have made.
    """

    def __init__(self, number: int = 1) -> None:
        super().__init__(number, FullCurve, (*SERIES, "grad_norm", "memory_gib"))
        self.steps = array("d")
        self.axes = {name: array("d") for name in COLUMNS}
        self._tokens = self._seconds = 0.0
        self._last_step = 0

    def add_step(self, t: float, event: StepEvent) -> None:
        """Add the metrics of a step."""
        super().add_step(t, event)
        self._tokens += event.tokens or 0
        self._seconds += (event.seconds or 0.0) * max(0, event.step - self._last_step)
        self._add_to_axes(event.step, event.epoch)

    def add_eval(self, event: EvalEvent) -> None:
        """Add the metrics of an evaluation."""
        super().add_eval(event)
        if not self.steps or event.step > self._last_step:
            self._add_to_axes(event.step, event.epoch)

    def cut(self, step: int) -> None:
        """Drop what came after a step."""
        super().cut(step)
        keep = bisect_right(self.steps, step)
        for values in (self.steps, *self.axes.values()):
            del values[keep:]
        self._tokens, self._seconds = self.length("tokens"), self.length("seconds")
        self._last_step = int(self.steps[-1]) if self.steps else step

    def points(self, curve: Curve, axis: str = "step") -> list[Point]:
        """Return a curve over `step`, `epoch`, `tokens` or `seconds`."""
        if axis == "step":
            return list(curve)
        return [(x, y) for x, (_, y) in zip(self._along(axis, curve), curve, strict=True)]

    def rows(self, curve: Curve, limit: int = MOST_POINTS) -> list[list[float]]:
        """Return at most `limit` points as rows of step, epoch, tokens, seconds and value."""
        points = decimate(curve, limit)
        columns = [self._along(axis, points) for axis in COLUMNS]
        return [[step, *axes, value] for (step, value), *axes in zip(points, *columns, strict=True)]

    def length(self, axis: str) -> float:
        """Return how far the stage has come on an axis."""
        values = self.steps if axis == "step" else self.axes[axis]
        return values[-1] if values else 0.0

    def _add_to_axes(self, step: int, epoch: float | None) -> None:
        epochs, tokens, seconds = self.axes.values()
        if epoch is None:
            epoch = epochs[-1] if epochs else math.nan
        self.steps.append(step)
        epochs.append(epoch)
        tokens.append(self._tokens)
        seconds.append(self._seconds)
        self._last_step = step

    def _along(self, axis: str, points: Curve | list[Point]) -> list[float]:
        """Return the values of an axis at the steps of these points."""
        steps, values = self.steps, self.axes[axis]
        if len(points) == len(steps):
            return list(values)
        return [values[max(0, bisect_right(steps, step) - 1)] for step, _ in points]


@dataclass(frozen=True)
class RunMetrics:
    """The curves of a run, by stage."""

    stages: list[MeasuredStage]

    def as_dict(self, limit: int = MOST_POINTS) -> dict[str, Any]:
        """Return the curves as plain data, downsampled to at most `limit` points each."""
        return {
            "columns": ["step", *COLUMNS, "value"],
            "stages": [
                {
                    "stage": stage.number,
                    "name": stage.name,
                    "total_steps": stage.total_steps,
                    "points": len(stage.steps),
                    "trained": {n: stage.rows(c, limit) for n, c in stage.train.items() if c},
                    "held": {n: stage.rows(c, limit) for n, c in stage.eval.items() if c},
                }
                for stage in self.stages
            ],
        }


def read_metrics(path: Path) -> RunMetrics:
    """Return the metrics in an event file; invalid lines are skipped."""
    stages = Timeline(MeasuredStage).add_all(iter_events(path)).stages
    return RunMetrics([stage for stage in stages if isinstance(stage, MeasuredStage)])


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)
