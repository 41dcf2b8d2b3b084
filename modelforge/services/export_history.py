"""Export runs: all metrics as CSV, and a comparison as one self-contained HTML page."""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from modelforge.pages import render_page
from modelforge.runs.progress.downsample import Point, smooth
from modelforge.runs.progress.metrics import AXES, MeasuredStage, RunMetrics
from modelforge.services.compare import (
    Comparison,
    ComparisonRow,
    RunResult,
    across_stages,
    value_text,
)
from modelforge.units import human_duration

CHART_POINTS = 400
# Curves with more points are drawn smoothed, over the measured points.
SMOOTHED_ABOVE = 24
COLUMNS = ["run", "name", "stage", "step", "epoch", "tokens", "seconds"]
CSV_CHUNK_BYTES = 2**16
# A spreadsheet evaluates cells that start with one of these.
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
# Unicode categories of characters that are not drawn.
_INVISIBLE = frozenset({"Cc", "Cf", "Mn"})
AXIS_NAMES = {"step": "steps", "tokens": "tokens", "seconds": "seconds of training"}
COLORS = ("#3b6fb6", "#cf430c", "#2a9d8f", "#c2557a", "#9a7b1f", "#6b6e76", "#7a5cc0", "#3f8f46")


def csv_chunks(runs: Sequence[tuple[str, str, RunMetrics]]) -> Iterator[str]:
    """Yield a CSV table of every step and evaluation of runs (id, name, metrics), in chunks.

    The first columns are `COLUMNS`; evaluation metrics have the prefix `eval_`.
    """
    stages = [stage for *_, metrics in runs for stage in metrics.stages]
    train = dict.fromkeys(name for s in stages for name, curve in s.train.items() if curve)
    evaluated = dict.fromkeys(name for s in stages for name, curve in s.eval.items() if curve)
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([*COLUMNS, *map(_cell, train), *(_cell(f"eval_{name}") for name in evaluated)])
    for run_id, name, metrics in runs:
        for stage in metrics.stages:
            for row in _rows(stage, list(train), list(evaluated)):
                writer.writerow([run_id, _cell(name), stage.number, *row])
                if file.tell() > CSV_CHUNK_BYTES:
                    yield file.getvalue()
                    file.seek(0)
                    file.truncate()
    yield file.getvalue()


def _rows(
    stage: MeasuredStage, train: Sequence[str], evaluated: Sequence[str]
) -> Iterator[list[Any]]:
    columns = [dict(stage.train.get(name) or ()) for name in train]
    columns += [dict(stage.eval.get(name) or ()) for name in evaluated]
    axes = map(stage.table.column, COLUMNS[-4:])
    for step, epoch, tokens, seconds in zip(*axes, strict=True):
        epoch_cell = "" if math.isnan(epoch) else round(epoch, 6)
        values = [column.get(step, "") for column in columns]
        yield [int(step), epoch_cell, int(tokens), round(seconds, 4), *values]


def _cell(text: str) -> str:
    """Return a text that no spreadsheet evaluates, also in a full-width or invisible disguise."""
    plain = unicodedata.normalize("NFKC", text)
    visible = "".join(mark for mark in plain if unicodedata.category(mark) not in _INVISIBLE)
    is_formula = text.startswith(FORMULA_PREFIXES) or visible.lstrip().startswith(FORMULA_PREFIXES)
    return f"'{text}" if is_formula else text


def comparison_page(comparison: Comparison, created: float) -> str:
    """Return a comparison as one HTML file without scripts and external resources.

    `created` is in Unix seconds.
    """
    runs = comparison.runs
    labels = [run.label for run in runs]
    tables = [
        (f"Different settings ({comparison.same_settings} equal)", _cells(comparison.settings)),
        ("Effective values", _cells(comparison.effect)),
        ("Data", _cells(comparison.data)),
        (f"Different versions ({comparison.same_versions} equal)", _cells(comparison.versions)),
    ]
    charts = [_chart(comparison.curves, "loss", "Loss", axis) for axis in AXES]
    charts.append(_chart(comparison.curves, "tokens_per_s", "Tokens per second", AXES[0]))
    return render_page(
        "comparison.html",
        title=" · ".join(labels),
        date=datetime.fromtimestamp(created).astimezone().strftime("%Y-%m-%d %H:%M"),
        labels=labels,
        legend=[(label, _color(index)) for index, label in enumerate(labels)],
        results=_results(runs),
        charts=charts,
        tables=[table for table in tables if table[1] or table[0] != "Effective values"],
    )


def _results(runs: Sequence[RunResult]) -> list[tuple[str, list[str]]]:
    rows: list[tuple[str, list[Any]]] = [
        ("State", [run.state for run in runs]),
        ("Verdict", [run.verdict for run in runs]),
        ("Steps", [f"{run.updates:,}" for run in runs]),
        ("Tokens", [f"{run.tokens:,.0f}" for run in runs]),
        ("Duration", [human_duration(run.duration) for run in runs]),
        ("Time in steps", [human_duration(run.seconds) for run in runs]),
        ("Tokens per second", [run.tokens_per_s for run in runs]),
        ("Loss", [run.loss for run in runs]),
        ("Evaluation loss", [run.eval_loss for run in runs]),
        ("Best evaluation loss", [run.best_eval_loss for run in runs]),
        ("Scores", [(run.scores or {}).get("after") for run in runs]),
        ("Ending", [(run.ending or {}).get("what") for run in runs]),
        ("Tags", [run.tags for run in runs]),
        ("Note", [run.note for run in runs]),
    ]
    return _cells([ComparisonRow(label, label, values) for label, values in rows])


def _cells(rows: Sequence[ComparisonRow]) -> list[tuple[str, list[str]]]:
    """Return the rows of a table as texts, without rows that have no value for any run."""
    return [
        (row.label, [value_text(value) for value in row.values])
        for row in rows
        if any(value not in (None, "", []) for value in row.values)
    ]


def _chart(metrics: Sequence[RunMetrics], name: str, title: str, axis: str) -> dict[str, Any]:
    """Return a chart for the template: training curves solid, evaluation curves dashed."""
    curves = [
        (index, evaluated, points)
        for index, each in enumerate(metrics)
        for evaluated in (False, True)
        if (points := across_stages(each, name, axis, evaluated=evaluated, limit=CHART_POINTS))
    ]
    chart: dict[str, Any] = {"heading": f"{title} over {AXIS_NAMES[axis]}", "lines": []}
    if not curves:
        return chart
    xs = [x for *_, points in curves for x, _ in points]
    ys = [y for *_, points in curves for _, y in points]
    x_min, y_min = min(xs), min(ys)
    width, height = (max(xs) - x_min) or 1.0, (max(ys) - y_min) or 1.0

    def line(index: int, points: Sequence[Point], *, dashed: bool, faint: bool) -> dict[str, Any]:
        path = "L".join(
            f"{60 + 920 * (x - x_min) / width:.1f} {230 - 215 * (y - y_min) / height:.1f}"
            for x, y in points
        )
        return {"color": _color(index), "path": f"M{path}", "dashed": dashed, "faint": faint}

    for index, evaluated, points in curves:
        is_smoothed = not evaluated and len(points) > SMOOTHED_ABOVE
        chart["lines"].append(line(index, points, dashed=evaluated, faint=is_smoothed))
        if is_smoothed:
            chart["lines"].append(line(index, smooth(points), dashed=False, faint=False))
    chart["grid"] = [(230 - 215 * s, f"{y_min + height * s:.4g}") for s in (0, 0.5, 1)]
    chart["x_min"], chart["x_max"] = f"{x_min:,.0f}", f"{max(xs):,.0f}"
    return chart


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]
