"""The Compare page: results, charts, settings, data and versions of several runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from modelforge.diagnosis.verdict import Verdict
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.runs.progress.downsample import MOST_POINTS
from modelforge.runs.progress.metrics import AXES
from modelforge.services.compare import (
    Comparison,
    ComparisonRow,
    RunResult,
    across_stages,
    value_text,
)
from ui.contract import ChartData, CompareReply, error_text
from ui.html import charts
from ui.html import format as fmt
from ui.html.components import card, chip, machine_brief, state_chip
from ui.html.gradio_page import gradio_page, text
from ui.html.markup import Markup, el, join
from ui.html.templates import render
from ui.metrics import METRIC_CHARTS, SCORES

TONES = ("c1", "ember", "c2", "c4", "c3", "c5", "c6", "c7")
# Axis → the title of its button and its unit.
AXIS_TITLES = {
    "step": ("Steps", "step"),
    "tokens": ("Tokens", "tokens"),
    "seconds": ("Time", "seconds of training"),
}
MAX_CHARTS = 6
# Metric, whether it is measured on the evaluation rows, title and unit.
CHARTS = (
    ("loss", False, "Loss", ""),
    ("loss", True, "Evaluation loss", ""),
    *(
        (name, metric.evaluation_only, metric.title, "")
        for metric in METRIC_CHARTS
        for name in (metric.curves[0][0], *metric.aliases)
    ),
    ("tokens_per_s", False, "Tokens per second", "tokens/s"),
)


def page(forge: Forge) -> None:
    """Add the page to the current Blocks."""

    def open(request: Any) -> CompareReply:
        axis = text(request, "axis") if text(request, "axis") in AXES else "step"
        ids = [run_id for run_id in text(request, "runs").split(",") if run_id]
        brief: dict[str, Markup] = {"machine-brief": machine_brief(forge.machine.current())}
        try:
            comparison = forge.history.compare(ids)
            verdicts = [forge.diagnosis.verdict(run_id) for run_id in ids]
        except ForgeError as error:
            reason = error_text(error)
            content = render("compare", "unavailable", reason)
            return CompareReply(parts={**brief, "compared": content})
        data = comparison_charts(comparison, axis)
        parts = comparison_parts(comparison, axis, data, verdicts)
        return CompareReply(parts={**brief, **parts}, charts=data)

    gradio_page(render("compare", "body"), "compare", open)


def comparison_charts(comparison: Comparison, axis: str) -> dict[str, ChartData]:
    """Return the charts by their key: one curve per run."""
    found: dict[str, ChartData] = {}
    for name, is_evaluation, title, unit in CHARTS:
        if len(found) >= MAX_CHARTS or any(data.title == title for data in found.values()):
            continue
        lines = [
            charts.Line(
                run.label,
                across_stages(curves, name, axis, evaluated=is_evaluation, limit=MOST_POINTS),
                _tone(place),
                dashed=is_evaluation,
                dots=is_evaluation,
            )
            for place, (run, curves) in enumerate(
                zip(comparison.runs, comparison.curves, strict=True)
            )
        ]
        if any(line.points for line in lines):
            drawn = [part for line in lines for part in charts.smoothed(line)]
            key = f"{name}-{'evaluation' if is_evaluation else 'training'}"
            found[key] = charts.chart(title, drawn, unit=unit, x_unit=AXIS_TITLES[axis][1])
    return found


def comparison_parts(
    comparison: Comparison,
    axis: str,
    data: dict[str, ChartData],
    verdicts: Sequence[Verdict | None] = (),
) -> dict[str, Markup]:
    """Return the parts of the page."""
    query = urlencode({"runs": ",".join(run.id for run in comparison.runs)})
    content = [
        _results(comparison, verdicts),
        render("compare", "charts", _with_tones(comparison.runs), axis, AXIS_TITLES, data),
        _settings(comparison),
        _data(comparison),
        _versions(comparison),
    ]
    return {"compare-exports": render("compare", "exports", query), "compared": join(content)}


def _results(comparison: Comparison, verdicts: Sequence[Verdict | None]) -> Markup:
    runs, differing = comparison.runs, comparison.differing_losses
    rows: list[tuple[object, Sequence[object]]] = [
        ("State", [_ending(run) for run in runs]),
        *([("Verdict", [_verdict(verdict) for verdict in verdicts])] if any(verdicts) else []),
        ("Steps", [fmt.number(run.updates) for run in runs]),
        ("Tokens", [fmt.number(run.tokens) for run in runs]),
        ("Duration", [fmt.duration(run.duration) for run in runs]),
        ("Time in steps", [fmt.duration(run.seconds) for run in runs]),
        ("Tokens per second", [fmt.number(run.tokens_per_s) for run in runs]),
        ("Loss", [fmt.number(run.loss, 3) for run in runs]),
        ("Evaluation loss", _losses([run.eval_loss for run in runs], differing)),
        ("Best evaluation loss", _losses([run.best_eval_loss for run in runs], differing)),
        *_scores(runs),
        ("Disk space", [fmt.size(run.bytes) for run in runs]),
    ]
    why = f"The evaluation losses are not comparable: the runs have different {differing}."
    note = el("p.help", why) if differing else None
    return card("Results", join([_table(runs, "Results", rows), note]))


def _scores(runs: Sequence[RunResult]) -> list[tuple[str, list[str]]]:
    after = [(run.scores or {}).get("after") or {} for run in runs]
    names = [name for name in SCORES if any(name in scores for scores in after)]
    return [(SCORES[name][0], [fmt.number(each.get(name), 3) for each in after]) for name in names]


def _losses(values: Sequence[float | None], differing: str) -> list[Markup]:
    """Return losses, with the lowest marked if they differ and are comparable."""
    known = {value for value in values if value is not None}
    lowest = min(known) if len(known) > 1 and not differing else math.nan
    return [render("compare", "losses", value, value == lowest) for value in values]


def _ending(run: RunResult) -> Markup:
    what = (run.ending or {}).get("what")
    return join([state_chip(run.state), el("small.cause", str(what)) if what else None])


def _verdict(verdict: Verdict | None) -> Markup:
    if verdict is None:
        return join([fmt.UNKNOWN])
    return join([chip(*fmt.VERDICTS[verdict.kind]), el("small", verdict.text)])


def _settings(comparison: Comparison) -> Markup:
    lines = [*comparison.settings, *comparison.effect]
    same = f"{fmt.plural(comparison.same_settings, 'setting')} in common"
    if not lines:
        return card("Settings", el("p.help", "All settings are the same."), same)
    return card("Different settings", _lines(comparison.runs, "Different settings", lines), same)


def _data(comparison: Comparison) -> Markup:
    digests = next(line for line in comparison.data if line.name == "sha256")
    if digests.differs:
        return card("Data", _lines(comparison.runs, "Data", comparison.data), "different")
    lines = [line for line in comparison.data if line.name != "mapping"]
    return card("Data", _lines(comparison.runs, "Data", lines), "identical (same SHA-256)")


def _versions(comparison: Comparison) -> Markup:
    same = f"{comparison.same_versions} in common"
    if not comparison.versions:
        return card("Versions", el("p.help", "All runs used the same versions."), same)
    title = "Different versions"
    return card(title, _lines(comparison.runs, title, comparison.versions), same)


def _lines(runs: Sequence[RunResult], label: str, lines: Sequence[ComparisonRow]) -> Markup:
    rows = [
        (el("span", line.label, title=line.name), [value_text(value) for value in line.values])
        for line in lines
    ]
    return _table(runs, label, rows)


def _table(
    runs: Sequence[RunResult], label: str, rows: Sequence[tuple[object, Sequence[object]]]
) -> Markup:
    return render("compare", "table", _with_tones(runs), label, rows)


def _with_tones(runs: Sequence[RunResult]) -> list[tuple[RunResult, str]]:
    return [(run, _tone(place)) for place, run in enumerate(runs)]


def _tone(place: int) -> str:
    return TONES[place % len(TONES)]
