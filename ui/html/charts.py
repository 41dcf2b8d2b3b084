"""Curves as inline SVG: any width, light and dark, readable aloud."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from modelforge.runs.downsample import Point, decimate
from ui.html import format as words
from ui.html.markup import Safe, el, join, trusted


@dataclass(frozen=True)
class Line:
    """One curve: `tone` names a colour of the stylesheet; dots mark single readings."""

    name: str
    points: Sequence[Point]
    tone: str = "c1"
    dashed: bool = False
    dots: bool = False
    faint: bool = False


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_end: float | None = None,
    from_zero: bool = False,
    key: str = "",
    unit: str = "update",
) -> Safe:
    """Return a chart of the lines that have points, or a line of text while none has.

    Its ranges and the names of its lines go with it, so that a pointer or the arrow keys can ask
    for the value of an update; `key` keeps the focus when it is drawn again.
    """
    drawn = [line for line in lines if line.points]
    if not drawn:
        return el("div.chart.empty", "The curve begins with the first update.")
    x_low, x_high = _x_range(drawn, x_end)
    ticks = _ticks([y for line in drawn for _, y in line.points], from_zero=from_zero)
    frame = _Frame(x_low, x_high, ticks[0], ticks[-1])
    figure = [_grid(frame, ticks), *(_path(frame, line) for line in drawn)]
    svg = trusted(
        '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(figure)}</svg>"
    )
    ends = [el("span.x0", words.number(x_low)), el("span.x1", words.number(x_high))]
    return el(
        "div.chart",
        el("div.plot", svg, _dots(frame, drawn)),
        el("div.ys", _labels(frame, ticks)),
        el("div.xs", ends[0], el("span", unit), ends[1]),
        el("output.read", aria_live="polite"),
        id=f"chart-{key or title}".replace(" ", "-"),
        role="img",
        tabindex="0",
        data_unit=unit,
        data_range=" ".join(f"{edge:g}" for edge in (x_low, x_high, ticks[0], ticks[-1])),
        aria_label=describe(title, drawn, unit),
    )


def _labels(frame: _Frame, ticks: Sequence[float]) -> list[Safe]:
    return [
        el("span", _tick_text(tick, ticks), style=f"top:{frame.y(tick) / 10:.1f}%")
        for tick in ticks
    ]


def _dots(frame: _Frame, drawn: Sequence[Line]) -> list[Safe]:
    return [
        el(f"i.dot.{line.tone}", style=f"left:{frame.x(x) / 10:.2f}%;top:{frame.y(y) / 10:.2f}%")
        for line in drawn
        if line.dots or len(line.points) == 1
        for x, y in _dotted(line.points)
    ]


def legend(lines: Sequence[Line]) -> Safe:
    """Return the names of the curves with their colours; one curve alone needs none."""
    told = [line for line in lines if line.points and not line.faint]
    if len([line for line in lines if not line.faint]) < 2 or not told:
        return Safe("")
    return join(el("span.key", el(f"i.{line.tone}"), line.name) for line in told)


def describe(title: str, lines: Sequence[Line], unit: str = "update") -> str:
    """Return the chart in words, for people who do not see it."""
    told = [
        f"{line.name} from {words.small(line.points[0][1])} "
        f"to {words.small(line.points[-1][1])} at {unit} {words.number(line.points[-1][0])}"
        for line in lines
        if line.points and not line.faint
    ]
    return f"{title}: {'; '.join(told)}."


def bars(title: str, heights: Sequence[tuple[int, int]], *, limit: int | None = None) -> Safe:
    """Return a histogram: `heights` holds the upper end of each bin and how many are in it.

    Bins beyond `limit` are drawn as what is too long.
    """
    most = max((count for _, count in heights), default=0)
    if not most:
        return el("div.chart.empty", "There is nothing to measure.")
    width = 1000 / len(heights)
    drawn = "".join(
        f'<rect class="{"over" if limit is not None and end > limit else "in"}" '
        f'x="{place * width + width * 0.06:.1f}" width="{width * 0.88:.1f}" '
        f'y="{1000 - 1000 * count / most:.1f}" height="{1000 * count / most:.1f}"/>'
        for place, (end, count) in enumerate(heights)
        if count
    )
    svg = trusted(
        '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="grid" d="M0 0H1000M0 500H1000M0 1000H1000"/>{drawn}</svg>'
    )
    return el(
        "div.chart.bars",
        el("div.plot", svg),
        el(
            "div.ys",
            el("span", words.number(most), style="top:0%"),
            el("span", "0", style="top:100%"),
        ),
        el(
            "div.xs",
            el("span.x0", "0"),
            el("span", "tokens"),
            el("span.x1", words.number(heights[-1][0])),
        ),
        role="img",
        aria_label=f"{title}: {_told(heights)}",
    )


def _told(heights: Sequence[tuple[int, int]]) -> str:
    high = max(heights, key=lambda pair: pair[1])
    return (
        f"{words.number(sum(count for _, count in heights))} in all, most of them "
        f"up to {words.number(high[0])}, the longest up to {words.number(heights[-1][0])}."
    )


@dataclass(frozen=True)
class _Frame:
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return 1000 * (value - self.x_low) / (self.x_high - self.x_low or 1)

    def y(self, value: float) -> float:
        return 1000 - 1000 * (value - self.y_low) / (self.y_high - self.y_low or 1)


def _x_range(lines: Sequence[Line], end: float | None) -> tuple[float, float]:
    low = min(line.points[0][0] for line in lines)
    high = max(end or 0, *(line.points[-1][0] for line in lines))
    return low, high if high > low else low + 1


def _ticks(values: Sequence[float], *, from_zero: bool) -> list[float]:
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if from_zero:
        low = min(0.0, low)
    if high - low < 1e-12:
        high = low + (abs(low) * 0.5 or 1.0)
    rough = (high - low) / 3
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _tick_text(tick: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    if step < 1e-3:
        return words.small(tick)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if digits and round(step * 10**digits, 9) % 1:
        digits += 1
    return f"{tick:,.{digits}f}"


def _grid(frame: _Frame, ticks: Sequence[float]) -> str:
    lines = "".join(f"M0 {frame.y(tick):.0f}H1000" for tick in ticks)
    return f'<path class="grid" d="{lines}"/>'


def _path(frame: _Frame, line: Line) -> str:
    points = [point for point in decimate(line.points) if math.isfinite(point[1])]
    drawn = "L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in points)
    classes = " ".join(
        word
        for word, told in ((line.tone, True), ("dash", line.dashed), ("faint", line.faint))
        if told
    )
    name = escape("" if line.faint else line.name)
    return f'<path class="line {classes}" d="M{drawn}" data-name="{name}"/>'


def _dotted(points: Sequence[Point]) -> Sequence[Point]:
    return points if len(points) <= 12 else [points[-1]]
