"""Runs to take along: every number as CSV, and a comparison as one HTML page that needs nothing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape
from typing import Any

from modelforge.runs.downsample import Point, smooth
from modelforge.runs.metrics import AXES, MeasuredStage, RunMetrics
from modelforge.services.compare import Comparison, RunResult, across_stages

POINTS = 400
COLUMNS = ["run", "name", "stage", "step", "epoch", "tokens", "seconds"]
# A cell that begins so would be worked out by a spreadsheet instead of shown.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
AXIS_NAMES = {"step": "updates", "tokens": "tokens", "seconds": "seconds of training"}
TONES = ("#3b6fb6", "#cf430c", "#2a9d8f", "#c2557a", "#9a7b1f", "#6b6e76", "#7a5cc0", "#3f8f46")
BOLD, FAINT = 'stroke-width="2"', 'stroke-width="1" opacity=".3"'
DASHED = 'stroke-dasharray="5 4"'
SMOOTHED = 24
EFFECT = "In effect"
STYLE = """
:root{--bg:#f6f6f4;--card:#fff;--line:#e2e1dc;--ink:#1d1f23;--ink-2:#5d6068;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--bg:#131417;--card:#1b1d21;--line:#2c2f36;--ink:#ececea;--ink-2:#a7aab2}}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 Inter,system-ui,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px}h1{font-size:20px}h2{font-size:15px;margin:0 0 10px}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px;margin:0 0 14px}
p,small{color:var(--ink-2)}table{border-collapse:collapse;width:100%;font-size:13.5px;table-layout:fixed;min-width:560px}
div.wide{overflow-x:auto}th{text-align:left;font-weight:500;color:var(--ink-2)}
td,th{padding:6px 10px;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
td{font-family:ui-monospace,Consolas,monospace;font-size:13px}svg{width:100%;height:auto;display:block}
svg text{fill:var(--ink-2);font:11px ui-monospace,monospace}.grid{stroke:var(--line);fill:none}
.key{display:inline-flex;align-items:center;gap:6px;margin-right:16px;font-size:13.5px}
.key i{width:16px;height:3px;border-radius:2px}
"""  # noqa: E501  # a stylesheet, as it goes into the page


def csv_of(named: Sequence[tuple[str, str, RunMetrics]]) -> Iterator[str]:
    """Yield a table of every update and check of these runs (id, name, curves), in pieces.

    Columns begin with those of `COLUMNS`; what was measured on held-out rows has `eval_` before it.
    """
    stages = [stage for *_, metrics in named for stage in metrics.stages]
    trained = dict.fromkeys(n for s in stages for n, curve in s.train.items() if curve)
    held = dict.fromkeys(n for s in stages for n, curve in s.eval.items() if curve)
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([*COLUMNS, *map(_cell, trained), *(_cell(f"eval_{name}") for name in held)])
    for run_id, name, curves in named:
        for stage in curves.stages:
            for row in _rows(stage, list(trained), list(held)):
                writer.writerow([run_id, _cell(name), stage.number, *row])
                if file.tell() > 2**16:
                    yield file.getvalue()
                    file.seek(0)
                    file.truncate()
    yield file.getvalue()


def _rows(stage: MeasuredStage, trained: Sequence[str], held: Sequence[str]) -> Iterator[list[Any]]:
    columns = [dict(stage.train.get(name) or ()) for name in trained]
    columns += [dict(stage.eval.get(name) or ()) for name in held]
    for (step, epoch), (_, tokens), (_, seconds) in zip(*stage.axes.values(), strict=True):
        told = "" if math.isnan(epoch) else round(epoch, 6)
        values = [column.get(step, "") for column in columns]
        yield [int(step), told, int(tokens), round(seconds, 4), *values]


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def page_of(comparison: Comparison, made: float) -> str:
    """Return a comparison as one HTML file: no script, no address, everything foreign escaped."""
    runs = comparison.runs
    title = escape(" · ".join(run.label for run in runs))
    when = datetime.fromtimestamp(made).astimezone().strftime("%Y-%m-%d %H:%M")
    keys = "".join(
        f'<span class="key"><i style="background:{_tone(at)}"></i>{escape(run.label)}</span>'
        for at, run in enumerate(runs)
    )
    parts = [_table("What came of them", runs, _results(runs))]
    for name, told in (("loss", "Loss"), ("tokens_per_s", "Tokens a second")):
        for axis in AXES if name == "loss" else AXES[:1]:
            drawn = _chart(comparison.curves, name, axis)
            parts.append(f"<section><h2>{told} over {AXIS_NAMES[axis]}</h2>{keys}{drawn}</section>")
    for name, lines in (
        (f"Settings that differ ({comparison.same_settings} the same)", comparison.settings),
        (EFFECT, comparison.effect),
        ("Data", comparison.data),
        (f"Versions that differ ({comparison.same_versions} the same)", comparison.versions),
    ):
        if lines or name != EFFECT:
            parts.append(_table(name, runs, [(line.label, line.values) for line in lines]))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>"
        f"<p>Compared with ModelForge, {when}.</p>{''.join(parts)}</main></body></html>\n"
    )


def told(value: Any) -> str:
    """Return a value of a table as people read it."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(told, value)) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} {told(one)}" for key, one in value.items() if one is not None)
    return str(value)


def _results(runs: Sequence[RunResult]) -> list[tuple[str, list[Any]]]:
    return [
        ("State", [run.state for run in runs]),
        ("How it went", [run.verdict for run in runs]),
        ("Updates", [f"{run.updates:,}" for run in runs]),
        ("Tokens", [f"{run.tokens:,.0f}" for run in runs]),
        ("Seconds of training", [run.seconds for run in runs]),
        ("Tokens a second", [run.tokens_per_s for run in runs]),
        ("Loss", [run.loss for run in runs]),
        ("Held-out loss", [run.eval_loss for run in runs]),
        ("Best held-out loss", [run.best_eval_loss for run in runs]),
        ("Scores", [(run.scores or {}).get("after") for run in runs]),
        ("Ending", [(run.ending or {}).get("what") for run in runs]),
        ("Tags", [run.tags for run in runs]),
        ("Note", [run.note for run in runs]),
    ]


def _table(
    title: str, runs: Sequence[RunResult], lines: Iterable[tuple[str, Sequence[Any]]]
) -> str:
    head = "".join(f"<th>{escape(run.label)}</th>" for run in runs)
    body = "".join(
        f"<tr><th>{escape(label)}</th>{''.join(f'<td>{escape(told(v))}</td>' for v in values)}</tr>"
        for label, values in lines
        if any(value not in (None, "", []) for value in values)
    )
    shown = f"<table><tr><th></th>{head}</tr>{body}</table>" if body else "<p>None.</p>"
    return f'<section><h2>{escape(title)}</h2><div class="wide">{shown}</div></section>'


def _chart(curves: Sequence[RunMetrics], name: str, axis: str) -> str:
    """Return curves over each other: solid while training, dashed on held-out rows."""
    lines = [
        (at, held, points)
        for at, each in enumerate(curves)
        for held in (False, True)
        if (points := across_stages(each, name, axis, held=held, most=POINTS))
    ]
    if not lines:
        return "<p>Nothing was measured.</p>"
    every = [point for *_, points in lines for point in points]
    x_low, x_high = min(x for x, _ in every), max(x for x, _ in every)
    y_low, y_high = min(y for _, y in every), max(y for _, y in every)
    wide, high = (x_high - x_low) or 1.0, (y_high - y_low) or 1.0

    def at(point: Point) -> str:
        x, y = (point[0] - x_low) / wide, (point[1] - y_low) / high
        return f"{60 + 920 * x:.1f} {230 - 215 * y:.1f}"

    def path(points: Sequence[Point], place: int, more: str) -> str:
        drawn = "L".join(map(at, points))
        return f'<path fill="none" stroke="{_tone(place)}" {more} d="M{drawn}"/>'

    paths = "".join(
        path(points, place, f"{BOLD} {DASHED if held else ''}")
        if held or len(points) <= SMOOTHED
        else path(points, place, FAINT) + path(smooth(points), place, BOLD)
        for place, held, points in lines
    )
    ticks = "".join(
        f'<path class="grid" d="M60 {230 - 215 * share:.1f}H980"/><text x="52" '
        f'y="{234 - 215 * share:.1f}" text-anchor="end">{y_low + high * share:.4g}</text>'
        for share in (0, 0.5, 1)
    )
    ends = (
        f'<text x="60" y="252">{x_low:,.0f}</text>'
        f'<text x="980" y="252" text-anchor="end">{x_high:,.0f}</text>'
    )
    return f'<svg viewBox="0 0 1000 260" role="img">{ticks}{paths}{ends}</svg>'


def _tone(at: int) -> str:
    return TONES[at % len(TONES)]
