"""The page of a run: progress, metrics, charts, log, and the result at the end."""

from __future__ import annotations

from modelforge.config.plan.make import Plan
from modelforge.config.recipe import dump_recipe
from modelforge.runs.progress.breakdown import breakdown
from modelforge.runs.progress.whole_run import whole_run
from modelforge.runs.timeline import Stage, Timeline
from modelforge.runs.view import RunView
from ui.contract import ChartData
from ui.html import format as fmt
from ui.html.charts import Line, chart
from ui.html.components import chart_card, empty_state, finding, progress
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render
from ui.metrics import BITS_PER_BYTE, CHART_NOTES
from ui.pages.run import breakdown as parts
from ui.pages.run import growing, metrics, pretraining, result, samples, side_panel
from ui.pages.run import state as summary
from ui.pages.run.side_panel import RunSnapshot
from ui.pages.run.state import (
    completed_share,
    is_training,
    log_lines,
    phase_text,
    stage_seconds_left,
)


def fast_parts(snapshot: RunSnapshot) -> dict[str, Markup]:
    """Return the parts that change with every step."""
    return {
        "run-head": _head(snapshot),
        "run-verdict": result.ending(snapshot),
        "run-stages": _stages(snapshot),
        "run-progress": _progress(snapshot),
        "run-status": join([status_text(snapshot)]),
        "run-numbers": _numbers(snapshot),
        "run-log": join(["\n".join(log_lines(snapshot.timeline))]),
        "run-side": side_panel.side(snapshot),
    }


def slow_parts(snapshot: RunSnapshot) -> dict[str, Markup]:
    """Return the parts that may lag by a second."""
    timeline = snapshot.timeline
    return {
        "run-printed": join([snapshot.printed]),
        "run-facts": side_panel.trained(snapshot),
        "run-breakdown": parts.cards(breakdown(timeline, snapshot.planned.get("memory") or ())),
        "run-samples": metrics.samples(timeline),
        "run-scores": metrics.scores(timeline),
        "run-growth": growing.parts(
            timeline,
            snapshot.run.plan,
            snapshot.planned,
            is_over=snapshot.run.state.is_over,
            comparisons=snapshot.comparisons,
            run=snapshot.run.id,
        ),
        "run-by-stage": growing.eval_card(timeline),
        "run-writes": pretraining.writes(
            timeline, snapshot.run.plan, samples=_samples_address(snapshot)
        ),
        "run-core": pretraining.core(timeline),
        "run-teach": _next_step(snapshot),
        "samples-over-time": samples.over_time(
            timeline,
            is_over=snapshot.run.state.is_over,
            is_new=snapshot.run.plan.pretraining is not None,
        ),
        "samples-side": samples.side(snapshot.run, timeline, has_result=snapshot.has_result),
        "run-metrics": _metric_cards(
            whole_run(timeline), is_new=snapshot.run.plan.pretraining is not None
        ),
        "run-earlier": _earlier_stages(timeline),
        "run-settings": join([dump_recipe(snapshot.run.config)]),
    }


SYSTEM_CHARTS: dict[str, tuple[str, str]] = {
    "speed": ("Tokens per second", "tokens/s"),
    "learning-rate": ("Learning rate", ""),
    "load": ("Load", "%"),
}


def charts(timeline: Timeline, plan: Plan | None = None) -> dict[str, ChartData]:
    """Return the data of all charts by their key; those of a growing model have all stages."""
    bands = growing.bands(timeline, plan) if plan else []
    now = whole_run(timeline, round(bands[-1].end) if bands else None)
    end, series = now.total_steps, now.train
    lines = {
        "speed": [Line("tokens per second", series["tokens_per_s"], "c2")],
        "learning-rate": [Line("learning rate", series["learning_rate"], "c4")],
        "load": [Line("CPU", series["cpu_percent"]), Line("GPU", series["gpu_percent"], "ember")],
    }
    data = {"loss": chart("Loss", metrics.losses(now), x_end=end, bands=bands)}
    for key, (title, unit) in SYSTEM_CHARTS.items():
        data[key] = chart(title, lines[key], unit=unit, x_end=end, from_zero=True, bands=bands)
    data |= metrics.charts(now, bands)
    if bands:
        data[growing.BY_STAGE] = growing.eval_chart(timeline, bands)
    if now is timeline.stage:
        for stage in timeline.stages[:-1]:
            loss = chart("Loss", metrics.losses(stage), x_end=stage.total_steps)
            data |= metrics.charts(stage) | {_loss_key(stage): loss}
    return data


def _loss_key(stage: Stage) -> str:
    return f"stage-{stage.number}-loss"


def _metric_cards(stage: Stage, *, is_new: bool) -> Markup:
    drawn = metrics.charts(stage).items()
    return join(
        [
            chart_card(
                key,
                data.title,
                CHART_NOTES[data.title],
                is_open=is_new and data.title == BITS_PER_BYTE,
            )
            for key, data in drawn
        ]
    )


def _earlier_stages(timeline: Timeline) -> Markup:
    """Return the charts of the completed stages, which are not in those of the whole run."""
    if whole_run(timeline) is not timeline.stage:
        return EMPTY
    stages = [
        (
            f"Stage {stage.number} · {stage.name}".rstrip(" ·"),
            [("Loss", _loss_key(stage))]
            + [(data.title, key) for key, data in metrics.charts(stage).items()],
        )
        for stage in timeline.stages[:-1]
    ]
    return render("run", "earlier_stages", stages, CHART_NOTES)


def title(snapshot: RunSnapshot) -> str:
    """Return the title of the browser tab."""
    timeline, state = snapshot.timeline, fmt.STATES[str(snapshot.run.state)][0]
    share = _share(snapshot) if is_training(timeline) and not snapshot.run.state.is_over else None
    lead = state if share is None else f"{share * 100:.0f} %"
    return f"{lead} · {snapshot.run.name} · ModelForge"


def status_text(snapshot: RunSnapshot) -> str:
    """Return the status for screen readers: the state and the phase, or every tenth of training."""
    timeline, state = snapshot.timeline, fmt.STATES[str(snapshot.run.state)][0]
    if snapshot.run.state.is_over:
        return f"{state}. {result.ending_text(snapshot)}"
    share = _share(snapshot)
    if is_training(timeline) and share is not None:
        return f"Training, {int(share * 10) * 10} percent."
    return phase_text(timeline) or state


def _share(snapshot: RunSnapshot) -> float | None:
    """Return the share of all steps that are done."""
    plan, timeline = snapshot.run.plan, snapshot.timeline
    if plan.growing is not None:
        return growing.share(timeline, plan)
    return completed_share(timeline, plan.total_steps)


def unavailable(reason: str) -> Markup:
    """Return the content for a run that cannot be shown."""
    state = empty_state("This run cannot be shown", reason, el("a.btn", "All runs", href="/runs"))
    return el("div.wide", state)


def _head(snapshot: RunSnapshot) -> Markup:
    run = snapshot.run
    if run.plan.pretraining is not None:
        texts = [*pretraining.head_texts(run.plan.pretraining), *_when(run)]
        return render("run", "head", run.name, texts, str(run.state))
    if run.plan.growing is not None:
        model = fmt.model_name(run.config.get("model_name", ""))
        texts = [model, *growing.head_texts(run.plan.growing), *_when(run)]
        return render("run", "head", run.name, texts, str(run.state))
    quantized = "" if run.plan.quantization == "none" else f" on {run.plan.quantization} weights"
    trained = "all weights" if run.plan.trains == "all" else f"LoRA{quantized}"
    texts = [
        fmt.model_name(run.config.get("model_name", "")),
        f"{run.plan.facts.label}, {trained}",
        fmt.plural(int(run.dataset.get("rows") or 0), "row"),
        *_when(run),
    ]
    return render("run", "head", run.name, texts, str(run.state))


def _when(run: RunView) -> list[str]:
    """Return when a run began, and its tags."""
    began = "queued" if str(run.state) == "queued" else "started"
    place = [f"on {run.elsewhere.target}"] if run.elsewhere else []
    return [*place, f"{began} {fmt.date(run.began)}", *(f"#{tag}" for tag in run.tags)]


def _next_step(snapshot: RunSnapshot) -> Markup:
    """Return the card that prepares the next step of a new model."""
    if snapshot.output is None or not snapshot.has_result:
        return EMPTY
    return pretraining.next_step(snapshot.run, snapshot.output, snapshot.chat)


def _samples_address(snapshot: RunSnapshot) -> str:
    """Return the address of the tab of all samples, which a run that is over has."""
    return f"/?run={snapshot.run.id}&tab=samples" if snapshot.run.state.is_over else ""


def _stages(snapshot: RunSnapshot) -> Markup:
    """Return a progress bar per stage; a growing model has a table of its stages."""
    plan = snapshot.run.plan
    if plan.growing is not None:
        return EMPTY
    return metrics.stages(snapshot.timeline, plan, is_over=snapshot.run.state.is_over)


def _progress(snapshot: RunSnapshot) -> Markup:
    timeline, state, plan = snapshot.timeline, snapshot.run.state, snapshot.run.plan
    grows = plan.growing is not None
    share = growing.share(timeline, plan) if grows else completed_share(timeline)
    if share is None and not state.is_active:
        share = 0.0
    # Stages have progress bars of their own.
    bar = progress("Progress", share) if timeline.stage_count is None or grows else EMPTY
    line = summary.progress_line(timeline, None if grows else plan.total_steps)
    line = line or fmt.initial_phase(str(state))
    if grows and (stage := growing.line(timeline)):
        line = f"{stage} · {line}"
    left = "" if state.is_over else _time_left(snapshot)
    if str(state) == "stopping":
        line, left = f"Stopping · {line}", ""
    return join([render("run", "progress_line", bar, line, left), _elsewhere(snapshot.run)])


def _elsewhere(run: RunView) -> Markup:
    """Return where an active run trains, since when, and what it waits for."""
    place = run.elsewhere
    if place is None or not run.state.is_active:
        return EMPTY
    if place.no_connection_since is not None:
        since = fmt.time_of_day(place.no_connection_since)
        text = f"No connection to {place.target} since {since}. The run there is not affected."
        return el("div.finds", finding("waits", "warn", text, place.note))
    since = f"There since {fmt.time_of_day(place.since)}" if place.since else "Not there yet"
    lines = [f"{since}: {place.place}", place.note, place.cost and f"Cost until now: {place.cost}"]
    return el("div.finds", finding(place.target, "plain", lines[0], *lines[1:]))


def _time_left(snapshot: RunSnapshot) -> str:
    left, timeline = snapshot.run.time_left(), snapshot.timeline
    if left is not None:
        return fmt.time_left(left)
    # The duration of later stages is unknown; that of the current one may be known.
    if timeline.stage_count and stage_seconds_left(timeline) is not None:
        return f"{fmt.duration(stage_seconds_left(timeline))} left in this stage"
    return ""


def _numbers(snapshot: RunSnapshot) -> Markup:
    timeline, now = snapshot.timeline, snapshot.timeline.stage
    gpu = now.last("gpu_percent")
    name, load = ("CPU", now.last("cpu_percent")) if gpu is None else ("GPU", gpu)
    if pretraining.is_from_nothing(snapshot.run.plan):
        headline = pretraining.headline(timeline)
    elif snapshot.run.plan.growing is not None:
        headline = growing.headline(timeline, snapshot.run.plan)
    else:
        headline = [(name, value, "") for name, value in metrics.headline(now)]
    values = [
        *headline,
        ("Tokens per second", fmt.number(now.last("tokens_per_s")), ""),
        (name, fmt.number(load), "%"),
        ("Peak memory", fmt.number(timeline.peak_memory_gib, 1), "GiB"),
    ]
    return render("run", "numbers", values)
