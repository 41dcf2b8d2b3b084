"""Curves made readable: thinned without losing a peak, at once or while they come; smoothed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import overload

Point = tuple[float, float]
MOST_POINTS = 500
# A trace holds as many points again before it thins them, so that thinning costs little.
TRACED = 256
_height = itemgetter(1)


class Trace(Sequence[Point]):
    """A curve that grows for ever and stays small: the first and last point, every peak and dip.

    Up to `TRACED` times two points it holds all of them; beyond, two of each stretch of equally
    many points, the lowest and the highest. Adding costs the same however long it is.
    """

    __slots__ = ("_first", "_room", "_shown", "_stretches", "_tail", "_width")

    def __init__(self, points: Sequence[Point] = ()) -> None:
        self._stretches: list[list[Point]] = []
        self._tail: list[Point] = []
        self._width = 1
        self._room = 2 * TRACED
        self._first: Point | None = None
        self._shown: list[Point] | None = None
        for point in points:
            self.append(point)

    def append(self, point: Point) -> None:
        """Add a point behind all others."""
        self._tail.append(point)
        self._shown = None
        if len(self._tail) >= self._room:
            self._thin()

    def cut(self, x: float) -> None:
        """Forget the points beyond `x`."""
        kept = ([point for point in one if point[0] <= x] for one in self._stretches)
        self._stretches = [one for one in kept if one]
        self._tail = [point for point in self._tail if point[0] <= x]
        if self._first is not None and self._first[0] > x:
            self._first = None
        self._shown = None

    def _thin(self) -> None:
        if self._first is None:
            self._first = self.points[0]
        last = self._tail.pop()
        while len(self._stretches) + len(self._tail) / self._width > TRACED:
            pairs = range(0, len(self._stretches), 2)
            self._stretches = [
                _extremes([*self._stretches[at], *self._following(at)]) for at in pairs
            ]
            self._width *= 2
            self._room = max(2 * TRACED, self._width)
        whole = len(self._tail) // self._width * self._width
        for start in range(0, whole, self._width):
            self._stretches.append(_extremes(self._tail[start : start + self._width]))
        self._tail = [*self._tail[whole:], last]

    def _following(self, at: int) -> list[Point]:
        return self._stretches[at + 1] if at + 1 < len(self._stretches) else []

    @property
    def points(self) -> list[Point]:
        """Return what is kept, in order."""
        if self._shown is None:
            thinned = [point for one in self._stretches for point in one]
            lost = [self._first] if self._first and thinned[:1] not in ([], [self._first]) else []
            self._shown = [*lost, *thinned, *self._tail]
        return self._shown

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    @overload
    def __getitem__(self, at: int) -> Point: ...
    @overload
    def __getitem__(self, at: slice) -> list[Point]: ...
    def __getitem__(self, at: int | slice) -> Point | list[Point]:
        return self.points[at]

    def __eq__(self, other: object) -> bool:
        return self.points == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Trace({self.points!r})"


def decimate(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most `most` points that keep the first, the last and every peak and dip."""
    if len(points) <= max(most, 2):
        return list(points)
    inner, buckets = points[1:-1], (most - 2) // 2
    kept = [points[0]]
    for number in range(buckets):
        part = inner[number * len(inner) // buckets : (number + 1) * len(inner) // buckets]
        kept += _extremes(part)
    return [*kept, points[-1]]


def smooth(points: Sequence[Point]) -> list[Point]:
    """Return a curve averaged over its neighbours, a twelfth of it at a time, without lag."""
    reach = max(1, len(points) // 24)
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    out = []
    for place, (x, _) in enumerate(points):
        # The window shrinks evenly towards both ends, so that it never leans.
        near = min(reach, place, len(points) - 1 - place)
        out.append((x, (sums[place + near + 1] - sums[place - near]) / (2 * near + 1)))
    return out


def _extremes(part: Sequence[Point]) -> list[Point]:
    if len(part) < 3:
        return list(part)
    low, high = min(part, key=_height), max(part, key=_height)
    return [low] if low == high else [low, high] if low < high else [high, low]
