"""Charts, samples, scores and stages of a run, by the metric names of the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.runs.event_types import FinishedEvent, ScoresEvent
from modelforge.runs.progress.downsample import Curve, Point
from modelforge.runs.timeline import Stage, Timeline
from ui.contract import ChartBand, ChartData
from ui.html import format as fmt
from ui.html.charts import Line, chart, smoothed
from ui.html.components import card
from ui.html.markup import EMPTY, Markup
from ui.html.templates import render
from ui.metrics import METRIC_CHARTS, SCORES, TOKEN_ACCURACY, MetricChart

MAX_CHARTS = 4
MAX_SAMPLES = 12


def charts(stage: Stage, bands: Sequence[ChartBand] = ()) -> dict[str, ChartData]:
    """Return the charts of the metrics of a stage, by their keys."""
    found: dict[str, ChartData] = {}
    for place, metric in enumerate(METRIC_CHARTS):
        lines = _lines(stage, metric)
        is_redundant = metric is TOKEN_ACCURACY and len(found) > 1
        if is_redundant or not any(line.points for line in lines):
            continue
        key = f"stage-{stage.number}-metric-{place}"
        found[key] = chart(metric.title, lines, x_end=stage.total_steps, bands=bands)
    return dict(list(found.items())[:MAX_CHARTS])


def losses(stage: Stage) -> list[Line]:
    """Return the curves of the training loss and the evaluation loss."""
    evaluation = Line("evaluation", stage.eval["loss"], "ember", dashed=True, dots=True)
    return [*smoothed(Line("training", stage.train["loss"])), evaluation]


def _lines(stage: Stage, metric: MetricChart) -> list[Line]:
    lines: list[Line] = []
    for name, label, tone in metric.curves:
        names = (name, *metric.aliases)
        evaluation = _points(stage.eval, names)
        if metric.evaluation_only:
            lines.append(Line(label, evaluation, tone, dots=True))
            continue
        lines += smoothed(Line(label, _points(stage.train, names), tone))
        if metric.with_evaluation:
            lines.append(Line("evaluation", evaluation, "ember", dashed=True, dots=True))
    return lines


def _points(curves: Mapping[str, Curve], names: Sequence[str]) -> Sequence[Point]:
    return next((curves[name] for name in names if curves.get(name)), [])


def samples(timeline: Timeline) -> Markup:
    """Return the newest completions with their rewards."""
    newest = list(timeline.samples)[:MAX_SAMPLES]
    if not newest:
        return EMPTY
    has_rewards = any(sample.reward is not None for sample in newest)
    has_stages = timeline.stage_count is not None
    table = render("run", "samples", newest, has_stages, has_rewards)
    return card("Samples", table, f"newest {len(newest)}")


def scores(timeline: Timeline) -> Markup:
    """Return the scores on the evaluation rows, before and after training."""
    event = timeline.newest(ScoresEvent)
    if event is None or not event.after:
        return EMPTY
    rows = fmt.plural(event.rows or 0, "evaluation row")
    table = render("run", "scores", event, SCORES, _score_text)
    return card("Scores", table, f"on {rows}" if event.rows else None)


def _score_text(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return fmt.UNKNOWN
    return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"


def headline(stage: Stage) -> list[tuple[str, str]]:
    """Return the two most important metrics of the training method."""
    if "reward" in stage.train:
        return [
            ("Mean reward", fmt.number(stage.last("reward"), 2)),
            ("KL divergence", fmt.number(stage.last("kl"), 3)),
        ]
    for margin, accuracy in (("rewards/margins", "rewards/accuracies"), ("margin", "accuracy")):
        if margin in stage.train or margin in stage.eval:
            share = _newest(stage, accuracy)
            return [
                ("Reward margin", fmt.number(_newest(stage, margin), 2)),
                ("Preference accuracy", fmt.percent(None if share is None else 100 * share)),
            ]
    return [
        ("Loss", fmt.number(stage.last("loss"), 2)),
        ("Evaluation loss", fmt.number(stage.last_eval("loss"), 2)),
    ]


def _newest(stage: Stage, name: str) -> float | None:
    evaluation = stage.last_eval(name)
    return stage.last(name) if evaluation is None else evaluation


def stages(timeline: Timeline, plan: Plan, *, is_over: bool) -> Markup:
    """Return a progress bar per stage with its steps; nothing for a run without stages."""
    if timeline.stage_count is None:
        return EMPTY
    known = {stage.number: stage for stage in timeline.stages}
    rows = []
    for number in range(1, timeline.stage_count + 1):
        stage = known.get(number)
        is_current = stage is timeline.stage
        steps = plan.total_steps if number == timeline.stage_count else plan.reward_steps
        name, share = "not started", 0.0
        if stage is not None:
            is_active = is_current and not isinstance(timeline.ending, FinishedEvent)
            name, share = stage.name, (stage.progress or 0.0) if is_active else 1.0
            steps = stage.total_steps or steps
        count = fmt.plural(steps, "step") if steps else ""
        parts = [f"Stage {number} of {timeline.stage_count}", name, count]
        title = " · ".join(part for part in parts if part)
        rows.append((title, share, is_current and not is_over))
    return render("run", "stages", rows)
