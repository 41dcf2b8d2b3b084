"""The metrics of an evaluation report: dot plots of the contestants, and all numbers as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.units import human_number
from ui.html import format as fmt
from ui.html.intervals import Dot, Scale, scale_of, tick_labels

# Contestant → its name; `prompted` also has its number of examples.
CONTESTANTS = {"base": "Base model", "prompted": "Base with examples", "tuned": "Tuned model"}
DIRECTIONS = {"higher": "Higher is better.", "lower": "Lower is better."}
# The smallest possible value by unit.
LEAST = {"nats": 0.0, "share": 0.0, "score": 0.0}
DIGITS = 2


@dataclass(frozen=True)
class MetricPlot:
    """One metric of a report, ready to be drawn."""

    title: str
    help: str
    rows: Sequence[tuple[Dot, str, str]]
    scale: Scale
    ticks: Sequence[tuple[str, str]]


def plots(report: Mapping[str, Any]) -> list[MetricPlot]:
    """Return the metrics of a report that have at least one value."""
    names = contestant_names(report)
    found = (_plot(metric, names) for metric in report.get("metrics") or ())
    return [plot for plot in found if plot is not None]


def contestant_names(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the contestants: Base + 5 examples."""
    examples = (report.get("facts") or {}).get("examples")
    count = fmt.plural(examples, "example") if isinstance(examples, int) else ""
    return {**CONTESTANTS, **({"prompted": f"Base + {count}"} if examples else {})}


def value_text(value: float | None, unit: str) -> str:
    """Return a value of a metric: 0.83, 24 %."""
    if value is None:
        return fmt.UNKNOWN
    if unit == "share":
        return fmt.percent(100 * value)
    return f"{value:,.{DIGITS}f}" if abs(value) < 1000 else human_number(value)


def interval_text(interval: Sequence[float] | None, unit: str) -> str:
    """Return an interval: 2.15–2.45, 16–33 %; empty where it is unknown."""
    if not interval:
        return ""
    low, high = (value_text(end, unit) for end in interval)
    return f"{low.removesuffix(' %')}–{high}"


def least_value(metric: Mapping[str, Any]) -> float | None:
    """Return the smallest possible value of a metric, None if it has none."""
    if metric.get("name") == "perplexity":
        return 1.0
    return LEAST.get(str(metric.get("unit")))


def measured(contestants: Mapping[str, Any], names: Mapping[str, str]) -> list[Dot]:
    """Return the contestants that have a value."""
    found = []
    for key, name in names.items():
        result = contestants.get(key) or {}
        if (value := result.get("value")) is not None:
            ends = result.get("interval")
            found.append(Dot(name, key, value, (ends[0], ends[1]) if ends else None))
    return found


def _plot(metric: Mapping[str, Any], names: Mapping[str, str]) -> MetricPlot | None:
    dots = measured(metric.get("contestants") or {}, names)
    if not dots:
        return None
    unit, least = str(metric.get("unit")), least_value(metric)
    scale = scale_of(dots, least=least)
    rows = [(dot, value_text(dot.value, unit), interval_text(dot.interval, unit)) for dot in dots]
    help_text = f"{metric.get('help', '')} {DIRECTIONS.get(str(metric.get('direction')), '')}"
    return MetricPlot(
        title=str(metric.get("label") or metric.get("name")),
        help=help_text.strip(),
        rows=rows,
        scale=scale,
        ticks=tick_labels(scale, lambda tick: _tick(tick, unit)),
    )


def _tick(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:g} %"
    return f"{value:g}"


@dataclass(frozen=True)
class DifferencePlot:
    """The difference of a metric between the tuned and the base model, around no difference."""

    title: str
    dot: Dot
    scale: Scale
    zero: str
    text: str


def difference(report: Mapping[str, Any]) -> DifferencePlot | None:
    """Return the difference of the metric that the verdict rests on, None if it is unknown."""
    verdict = report.get("verdict") or {}
    metrics = {metric.get("name"): metric for metric in report.get("metrics") or ()}
    metric = metrics.get(verdict.get("metric")) or {}
    found = metric.get("difference") or {}
    value, ends = found.get("value"), found.get("interval")
    if value is None or not ends:
        return None
    dot = Dot("Difference", "tuned", value, (ends[0], ends[1]))
    # The line of no difference stays in sight.
    scale = scale_of([dot, Dot("No difference", "base", 0.0)])
    unit, title = str(metric.get("unit")), str(metric.get("label") or metric.get("name"))
    numbers = [_signed(number, unit) for number in (value, *ends)]
    text = f"Difference in {title}: {numbers[0]}, 95 % interval {numbers[1]} to {numbers[2]}"
    return DifferencePlot(title, dot, scale, scale.place(0.0), text)


def _signed(value: float, unit: str) -> str:
    return f"{'minus ' if value < 0 else ''}{value_text(abs(value), unit)}"


def as_table(report: Mapping[str, Any]) -> str:
    """Return the metrics as a table in Markdown, for "Copy as a table"."""
    names = contestant_names(report)
    heads = ["Metric", "Better", "Rows", *names.values()]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for metric in report.get("metrics") or ():
        contestants, unit = metric.get("contestants") or {}, str(metric.get("unit"))
        cells = [_cell(contestants.get(key), unit) for key in names]
        title = str(metric.get("label") or metric.get("name"))
        lines.append(_line([title, str(metric.get("direction")), str(metric.get("rows")), *cells]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    safe = (" ".join(cell.replace("|", "\\|").split()) for cell in cells)
    return f"| {' | '.join(safe)} |"


def _cell(result: Mapping[str, Any] | None, unit: str) -> str:
    if not result or result.get("value") is None:
        return fmt.UNKNOWN
    interval = interval_text(result.get("interval"), unit)
    return f"{value_text(result['value'], unit)}{f' ({interval})' if interval else ''}"
