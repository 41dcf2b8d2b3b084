"""The page of a run: progress, metrics, charts, log, and the result at the end."""

from __future__ import annotations

from ui.contract import ChartData
from ui.html import format as fmt
from ui.html.charts import Line, chart, placeholder
from ui.html.components import card, empty_state, progress, state_chip
from ui.html.markup import EMPTY, Markup, el, join
from ui.pages.run import metrics, result, side_panel, summary
from ui.pages.run.side_panel import RunSnapshot
from ui.pages.run.state import RunPicture, Stretch


def skeleton() -> Markup:
    """Return the page of a run, empty of values."""
    progress_card = el(
        "section.card",
        el("div.head", data_part="run-head"),
        el(
            "div.body",
            el("div", data_part="run-verdict"),
            el("div", data_part="run-stages"),
            el("div", data_part="run-progress"),
            el("p.gone", data_part="run-status", role="status"),
            el("div.kpis", data_part="run-numbers"),
        ),
        aria_label="Progress",
    )
    main = el(
        "div",
        el("p.reason", data_part="run-gap", role="status"),
        progress_card,
        el("div", data_part="run-scores"),
        el(
            "div.two.curves",
            card("Loss", placeholder("loss")),
            el("div.slot", data_part="run-metrics"),
            [card(title, placeholder(key)) for key, (title, _) in _SYSTEM_CHARTS.items()],
        ),
        el("div", data_part="run-samples"),
        el("div", data_part="run-earlier"),
        _log(),
    )
    aside = el(
        "aside.plan",
        el("div.card", el("div.body", data_part="run-side"), aria_label="This run"),
        el("div.card", el("div.body", data_part="run-facts")),
    )
    return join([main, aside])


def fast_parts(snapshot: RunSnapshot) -> dict[str, Markup]:
    """Return the parts that change with every step."""
    return {
        "run-head": _head(snapshot),
        "run-verdict": result.ending(snapshot),
        "run-stages": metrics.stages(snapshot.picture, is_over=snapshot.run.state.is_over),
        "run-progress": _progress(snapshot),
        "run-status": join([status_text(snapshot)]),
        "run-numbers": _numbers(snapshot),
        "run-log": join(["\n".join(snapshot.picture.log)]),
        "run-side": side_panel.side(snapshot),
    }


def slow_parts(snapshot: RunSnapshot) -> dict[str, Markup]:
    """Return the parts that may lag by a second."""
    picture = snapshot.picture
    return {
        "run-printed": join([snapshot.printed]),
        "run-facts": side_panel.trained(snapshot),
        "run-samples": metrics.samples(picture),
        "run-scores": metrics.scores(picture),
        "run-metrics": _metric_cards(picture.now),
        "run-earlier": _earlier_stages(picture),
    }


_SYSTEM_CHARTS: dict[str, tuple[str, str]] = {
    "speed": ("Tokens per second", "tokens/s"),
    "learning-rate": ("Learning rate", ""),
    "load": ("Load", "%"),
}


def charts(picture: RunPicture) -> dict[str, ChartData]:
    """Return the data of all charts by their key."""
    now, series = picture.now, picture.now.series
    lines = {
        "speed": [Line("tokens per second", series["tokens_per_s"], "c2")],
        "learning-rate": [Line("learning rate", series["learning_rate"], "c4")],
        "load": [Line("CPU", series["cpu_percent"]), Line("GPU", series["gpu_percent"], "ember")],
    }
    data = {"loss": chart("Loss", metrics.losses(now), x_end=now.total_steps)}
    for key, (title, unit) in _SYSTEM_CHARTS.items():
        data[key] = chart(title, lines[key], unit=unit, x_end=now.total_steps, from_zero=True)
    for stretch in picture.stretches:
        data |= metrics.charts(stretch)
        if stretch is not now:
            loss = chart("Loss", metrics.losses(stretch), x_end=stretch.total_steps)
            data[_loss_key(stretch)] = loss
    return data


def _loss_key(stretch: Stretch) -> str:
    return f"stage-{stretch.number}-loss"


def _metric_cards(stretch: Stretch) -> Markup:
    return join(
        [card(data.title, placeholder(key)) for key, data in metrics.charts(stretch).items()]
    )


def _earlier_stages(picture: RunPicture) -> Markup:
    """Return the charts of the completed stages."""
    stages = [
        [
            el("h2.stage-name", f"Stage {stretch.number} · {stretch.name}".rstrip(" ·")),
            el("div.two.curves", card("Loss", placeholder(_loss_key(stretch))),
               _metric_cards(stretch)),
        ]
        for stretch in picture.stretches[:-1]
    ]  # fmt: skip
    return join(stages)


def title(snapshot: RunSnapshot) -> str:
    """Return the title of the browser tab."""
    picture, state = snapshot.picture, fmt.STATES[str(snapshot.run.state)][0]
    share = picture.share if picture.is_training and not snapshot.run.state.is_over else None
    lead = state if share is None else f"{share * 100:.0f} %"
    return f"{lead} · {snapshot.run.name} · ModelForge"


def status_text(snapshot: RunSnapshot) -> str:
    """Return the status for screen readers: the state and the phase, or every tenth of training."""
    picture, state = snapshot.picture, fmt.STATES[str(snapshot.run.state)][0]
    if snapshot.run.state.is_over:
        return f"{state}. {result.ending_text(snapshot)}"
    if picture.is_training and picture.share is not None:
        return f"Training, {int(picture.share * 10) * 10} percent."
    return picture.phase_text or state


def unavailable(reason: str) -> Markup:
    """Return the content for a run that cannot be shown."""
    state = empty_state("This run cannot be shown", reason, el("a.btn", "All runs", href="/runs"))
    return el("div.wide", state)


def _log() -> Markup:
    printed = "Output of the worker"
    return card(
        "Log",
        [
            el("pre.log", data_part="run-log", tabindex="0", role="log", aria_live="off",
               aria_label="Log"),
            el(
                "details.printed",
                el("summary", printed),
                el("pre.log", data_part="run-printed", tabindex="0", aria_label=printed),
            ),
        ],
        el("button.btn.s", "Copy", type="button", data_action="copy", data_from="run-log"),
    )  # fmt: skip


def _head(snapshot: RunSnapshot) -> Markup:
    run = snapshot.run
    quantized = "" if run.plan.quantization == "none" else f" on {run.plan.quantization} weights"
    trained = "all weights" if run.plan.trains == "all" else f"LoRA{quantized}"
    texts = [
        fmt.model_name(run.config.get("model_name", "")),
        f"{run.plan.facts.label}, {trained}",
        fmt.plural(int(run.dataset.get("rows") or 0), "row"),
        f"{'started' if run.launched else 'queued'} {fmt.date(run.began)}",
        *(f"#{tag}" for tag in run.tags),
    ]
    return join(
        [
            el("div", el("h1.title", run.name), el("div.sub", " · ".join(texts))),
            el("div.sum", state_chip(str(run.state))),
        ]
    )


def _progress(snapshot: RunSnapshot) -> Markup:
    picture, state = snapshot.picture, snapshot.run.state
    share = picture.share
    if share is None and not state.is_active:
        share = 0.0
    # Stages have progress bars of their own.
    bar = progress("Progress", share) if picture.stages is None else EMPTY
    line = summary.progress_line(picture) or fmt.initial_phase(str(state))
    left = "" if state.is_over else _time_left(snapshot)
    if str(state) == "stopping":
        line, left = f"Stopping · {line}", ""
    texts = el("div.row.under-bar", el("span.sub", line), el("span.num", left))
    return join([bar, texts])


def _time_left(snapshot: RunSnapshot) -> str:
    left, picture = side_panel.time_left(snapshot), snapshot.picture
    if left is not None:
        return "nearly done" if left < 3 else f"{fmt.duration(left)} left"
    # The duration of later stages is unknown; that of the current one may be known.
    if picture.stages and picture.seconds_left is not None:
        return f"{fmt.duration(picture.seconds_left)} left in this stage"
    return ""


def _numbers(snapshot: RunSnapshot) -> Markup:
    picture, now = snapshot.picture, snapshot.picture.now
    gpu = now.last("gpu_percent")
    name, load = ("CPU", now.last("cpu_percent")) if gpu is None else ("GPU", gpu)
    values = [
        *((name, value, "") for name, value in metrics.headline(now)),
        ("Tokens per second", fmt.number(now.last("tokens_per_s")), ""),
        (name, fmt.number(load), "%"),
        ("Peak memory", fmt.number(picture.peak_memory_gib, 1), "GiB"),
    ]
    return join([_number(*value) for value in values])


def _number(name: str, value: str, unit: str) -> Markup:
    has_unit = unit and value != fmt.UNKNOWN
    return el(
        "div.kpi", el("small", name), el("div.big", value, el("u", unit) if has_unit else None)
    )
