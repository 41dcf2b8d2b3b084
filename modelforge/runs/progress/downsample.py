"""Curves: series of points that grow; downsampled without losing a peak, or smoothed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import overload

Point = tuple[float, float]
MOST_POINTS = 500
# A downsampled curve keeps between one and two times this many points.
KEPT = 256
_value = itemgetter(1)


class Curve(Sequence[Point]):
    """Points (x, y) in ascending order of x; `append` adds one at the end."""

    __slots__ = ()
    append: Callable[[Point], None]

    @abstractmethod
    def cut(self, x: float) -> None:
        """Drop the points beyond `x`."""

    @property
    @abstractmethod
    def points(self) -> Sequence[Point]:
        """The points that are kept, in order."""

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | Sequence[Point]:
        return self.points[index]


class DownsampledCurve(Curve):
    """A curve of bounded size that keeps its first and last point and every peak and dip.

    Up to `2 * KEPT` points are kept as they are. Of more, each bucket of equally many consecutive
    points keeps its lowest and its highest point. Appending takes constant time on average.
    """

    __slots__ = ("_buckets", "_cached", "_capacity", "_first", "_tail", "_width")

    def __init__(self) -> None:
        self._buckets: list[list[Point]] = []
        self._tail: list[Point] = []
        self._width = 1
        self._capacity = 2 * KEPT
        self._first: Point | None = None
        self._cached: list[Point] | None = None

    def append(self, point: Point) -> None:
        """Add a point at the end."""
        self._tail.append(point)
        self._cached = None
        if len(self._tail) >= self._capacity:
            self._compact()

    def cut(self, x: float) -> None:
        """Drop the points beyond `x`."""
        buckets = ([point for point in bucket if point[0] <= x] for bucket in self._buckets)
        self._buckets = [bucket for bucket in buckets if bucket]
        self._tail = [point for point in self._tail if point[0] <= x]
        if self._first is not None and self._first[0] > x:
            self._first = None
        self._cached = None

    def _compact(self) -> None:
        if self._first is None:
            self._first = self.points[0]
        last = self._tail.pop()
        while len(self._buckets) + len(self._tail) / self._width > KEPT:
            pairs = (self._buckets[i : i + 2] for i in range(0, len(self._buckets), 2))
            self._buckets = [_extremes([point for bucket in pair for point in bucket])
                             for pair in pairs]  # fmt: skip
            self._width *= 2
            self._capacity = max(2 * KEPT, self._width)
        full = len(self._tail) // self._width * self._width
        for start in range(0, full, self._width):
            self._buckets.append(_extremes(self._tail[start : start + self._width]))
        self._tail = [*self._tail[full:], last]

    @property
    def points(self) -> list[Point]:
        """The points that are kept, in order."""
        if self._cached is None:
            kept = [point for bucket in self._buckets for point in bucket]
            lost = [self._first] if self._first and kept[:1] not in ([], [self._first]) else []
            self._cached = [*lost, *kept, *self._tail]
        return self._cached


def decimate(points: Sequence[Point], limit: int = MOST_POINTS) -> list[Point]:
    """Return at most `limit` points, among them the first, the last and every peak and dip."""
    if len(points) <= max(limit, 2):
        return list(points)
    inner, buckets = points[1:-1], (limit - 2) // 2
    kept = [points[0]]
    for i in range(buckets):
        bucket = inner[i * len(inner) // buckets : (i + 1) * len(inner) // buckets]
        kept += _extremes(bucket)
    return [*kept, points[-1]]


def smooth(points: Sequence[Point]) -> list[Point]:
    """Return the centered moving average over a twelfth of the curve.

    The window shrinks symmetrically towards both ends, so that the average does not lag.
    """
    reach = max(1, len(points) // 24)
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    averages = []
    for i, (x, _) in enumerate(points):
        radius = min(reach, i, len(points) - 1 - i)
        averages.append((x, (sums[i + radius + 1] - sums[i - radius]) / (2 * radius + 1)))
    return averages


def _extremes(points: Sequence[Point]) -> list[Point]:
    """Return the lowest and the highest of these points, in order."""
    if len(points) < 3:
        return list(points)
    low, high = min(points, key=_value), max(points, key=_value)
    if low == high:
        return [low]
    return [low, high] if low < high else [high, low]
