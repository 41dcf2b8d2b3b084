"""Chart data for the browser (drawn by uPlot), and histograms as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modelforge.runs.progress.downsample import Point, decimate, smooth
from ui.contract import ChartBand, ChartData, ChartSeries
from ui.html import format as fmt
from ui.html.markup import Markup, el
from ui.html.templates import render

# Curves with more points are drawn smoothed, over the measured points.
SMOOTHED = 24


@dataclass(frozen=True)
class Line:
    """One curve. `tone` names a color of the stylesheet; dots mark each measured point."""

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
    unit: str = "",
    x_unit: str = "step",
    x_end: float | None = None,
    from_zero: bool = False,
    bands: Sequence[ChartBand] = (),
) -> ChartData:
    """Return the data of a chart, at most `MOST_POINTS` finite points per curve."""
    series = [made for made in map(_series, lines) if made.x]
    description = _description(title, series, unit, x_unit)
    return ChartData(title, description, series, unit, x_unit, x_end, from_zero, bands=list(bands))


def smoothed(line: Line) -> list[Line]:
    """Return a curve smoothed over its faint points, or as it is where it has few."""
    if line.dashed or len(line.points) <= SMOOTHED:
        return [line]
    return [
        Line(line.name, line.points, line.tone, faint=True),
        Line(line.name, smooth(line.points), line.tone),
    ]


def _series(line: Line) -> ChartSeries:
    points = [(x, y) for x, y in decimate(line.points) if math.isfinite(y)]
    return ChartSeries(
        name=line.name,
        x=[x for x, _ in points],
        y=[y for _, y in points],
        tone=line.tone,
        is_dashed=line.dashed,
        has_dots=line.dots,
        is_faint=line.faint,
    )


def _description(title: str, series: Sequence[ChartSeries], unit: str, x_unit: str) -> str:
    space = f" {unit}" if unit else ""
    texts = [
        f"{each.name} from {fmt.compact(each.y[0])} to {fmt.compact(each.y[-1])}{space} "
        f"at {x_unit} {fmt.number(each.x[-1])}"
        for each in series
        if not each.is_faint
    ]
    return f"{title}: {'; '.join(texts)}."


def histogram(title: str, bins: Sequence[tuple[int, int]], *, limit: int | None = None) -> Markup:
    """Return a histogram of (upper end, count); bins beyond `limit` have another color."""
    highest = max((count for _, count in bins), default=0)
    if not highest:
        return el("div.chart.empty", "There are no rows to measure.")
    commonest = max(bins, key=lambda pair: pair[1])[0]
    total = fmt.plural(sum(count for _, count in bins), "row")
    label = (
        f"{title}: {total}, most of them up to {fmt.number(commonest)}, "
        f"the longest up to {fmt.number(bins[-1][0])}."
    )
    return render("data", "histogram", label, bins, limit, highest)
