"""All metrics of a run, every point kept: for comparisons, exports and the REST interface."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from struct import Struct
from typing import Any, TypeGuard

from modelforge.runs.event_types import EvalEvent, StepEvent
from modelforge.runs.events import iter_events
from modelforge.runs.progress.downsample import MOST_POINTS, Curve, Point, decimate
from modelforge.runs.timeline import SERIES, Stage, StageTimeline

AXES = ("step", "tokens", "seconds")
# What every reported step has besides its number.
COLUMNS = ("epoch", "tokens", "seconds")
_SERIES = (*SERIES, "grad_norm", "memory_gib")
_TABLE = ("step", *COLUMNS, *_SERIES)
_pack_row = Struct(f"{len(_TABLE)}d").pack
_series_values = attrgetter(*_SERIES)


class StepTable:
    """The reported steps: rows of step, `COLUMNS` and the series, NaN where one has no value.

    All rows are in one array, which makes adding one fast.
    """

    def __init__(self) -> None:
        self._values = array("d")

    def __len__(self) -> int:
        return len(self._values) // len(_TABLE)

    def add_row(self, *values: float) -> None:
        """Add a row with a value for every column."""
        self._values.frombytes(_pack_row(*values))  # faster than `extend`

    def column(self, name: str) -> array[float]:
        """Return the values of a column."""
        return self._values[_TABLE.index(name) :: len(_TABLE)]

    def last(self, name: str, default: float = 0.0) -> float:
        """Return the newest value of a column."""
        return self._values[_TABLE.index(name) - len(_TABLE)] if self._values else default

    def cut(self, step: float) -> None:
        """Drop the rows beyond a step."""
        del self._values[bisect_right(self.column("step"), step) * len(_TABLE) :]


class ColumnCurve(Curve):
    """The values of a series in a table, over steps."""

    def __init__(self, table: StepTable, name: str) -> None:
        self._table, self._name = table, name

    def append(self, point: Point) -> None:
        """Do nothing: the table has the value already."""

    def cut(self, x: float) -> None:
        """Drop the rows of the table beyond step `x`."""
        self._table.cut(x)

    @property
    def points(self) -> list[Point]:
        """The steps that have a value, in order."""
        pairs = zip(self._table.column("step"), self._table.column(self._name), strict=True)
        return [(x, y) for x, y in pairs if math.isfinite(y)]


class FullCurve(Curve):
    """A curve that keeps every point, as x and y in turn in one array."""

    __slots__ = ("_values", "append")

    def __init__(self) -> None:
        self._values = array("d")
        self.append = self._values.extend

    def cut(self, x: float) -> None:
        """Drop the points beyond `x`."""
        del self._values[2 * bisect_right(self._values[::2], x) :]

    @property
    def points(self) -> list[Point]:
        """All points, in order."""
        return list(zip(self._values[::2], self._values[1::2], strict=True))


class MeasuredStage(Stage):
    """A stage with all its points.

    `table` has the epoch at every reported step, and the tokens and the seconds of training until
    then; evaluations and pauses do not count. They start at the step that training continues from,
    which another run may have made.
    """

    def __init__(self, number: int = 1) -> None:
        super().__init__(number, FullCurve)
        self.table = StepTable()
        self.train = {name: ColumnCurve(self.table, name) for name in _SERIES}
        self._tokens = self._seconds = 0.0
        self._last_step = 0

    def add_eval(self, event: EvalEvent) -> None:
        """Add the metrics of an evaluation."""
        super().add_eval(event)
        if not self.table or event.step > self._last_step:
            self._add_row(event, (None,) * len(_SERIES))

    def cut(self, step: int) -> None:
        """Drop what came after a step."""
        super().cut(step)
        self._tokens, self._seconds = self.length("tokens"), self.length("seconds")
        self._last_step = int(self.table.last("step", step))

    def points(self, curve: Curve, axis: str = "step") -> list[Point]:
        """Return a curve over `step`, `epoch`, `tokens` or `seconds`."""
        points = list(curve)
        if axis == "step":
            return points
        return [(x, y) for x, (_, y) in zip(self._along(axis, points), points, strict=True)]

    def rows(self, curves: Mapping[str, Curve], limit: int) -> dict[str, list[list[float]]]:
        """Return curves as rows of step, epoch, tokens, seconds and value, at most `limit` each."""
        rows = {}
        for name, curve in curves.items():
            if points := decimate(list(curve), limit):
                columns = [self._along(axis, points) for axis in COLUMNS]
                pairs = zip(points, *columns, strict=True)
                rows[name] = [[step, *axes, value] for (step, value), *axes in pairs]
        return rows

    def length(self, axis: str) -> float:
        """Return how far the stage has come on an axis."""
        return self.table.last(axis)

    def _add_series(self, event: StepEvent) -> None:
        self._tokens += event.tokens or 0
        if event.seconds and event.step > self._last_step:
            self._seconds += event.seconds * (event.step - self._last_step)
        self._add_row(event, _series_values(event))

    def _add_row(self, event: StepEvent | EvalEvent, series: Iterable[float | None]) -> None:
        self._last_step, epoch = event.step, event.epoch
        if epoch is None:
            epoch = self.table.last("epoch", math.nan)
        values = [math.nan if value is None else value for value in series]
        self.table.add_row(event.step, epoch, self._tokens, self._seconds, *values)

    def _along(self, axis: str, points: Sequence[Point]) -> Sequence[float]:
        """Return the values of an axis at the steps of these points."""
        steps, values = self.table.column("step"), self.table.column(axis)
        if len(points) == len(steps):
            return values
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
                    "points": len(stage.table),
                    "trained": stage.rows(stage.train, limit),
                    "held": stage.rows(stage.eval, limit),
                }
                for stage in self.stages
            ],
        }


def read_metrics(path: Path) -> RunMetrics:
    """Return the metrics in an event file; invalid lines are skipped."""
    stages = StageTimeline(MeasuredStage).add_all(iter_events(path)).stages
    return RunMetrics([stage for stage in stages if isinstance(stage, MeasuredStage)])


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)
