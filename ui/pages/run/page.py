"""The run view: progress, numbers, curves, log, and the verdict at the end."""

from __future__ import annotations

from ui.html import charts
from ui.html import format as words
from ui.html.charts import Line
from ui.html.markup import Safe, el, join
from ui.pages.run import metrics, result, side_panel, summary
from ui.pages.run.side_panel import Seen
from ui.pages.run.state import RunPicture, Stretch

PLACES = range(metrics.MOST_CHARTS)


def skeleton() -> Safe:
    """Return the page of a run, empty of numbers."""
    return join(
        [
            el(
                "div",
                el("p.reason", data_part="run-gap", role="status"),
                el(
                    "section.card",
                    el("div.head", data_part="run-head"),
                    el(
                        "div.body",
                        el("div", data_part="run-verdict"),
                        el("div", data_part="run-stages"),
                        el("div", data_part="run-progress"),
                        el("p.gone", data_part="run-said", role="status"),
                        el("div.kpis", data_part="run-numbers"),
                    ),
                    aria_label="Progress",
                ),
                el("div", data_part="run-scores"),
                el(
                    "div.two.curves",
                    _chart("Loss", "loss"),
                    [el("div.slot", data_part=f"measure-{place}") for place in PLACES],
                    _chart("Tokens a second", "speed"),
                    _chart("Learning rate", "rate"),
                    _chart("Load", "load"),
                ),
                el("div", data_part="run-samples"),
                el("div", data_part="run-earlier"),
                _log(),
            ),
            el(
                "aside.plan",
                el("div.card", el("div.body", data_part="run-side"), aria_label="This run"),
                el("div.card", el("div.body", data_part="run-facts")),
            ),
        ]
    )


def fast(seen: Seen) -> dict[str, Safe]:
    """Return the parts that change with every update."""
    return {
        "run-head": _head(seen),
        "run-verdict": result.ending(seen),
        "run-stages": metrics.stages(seen.picture, over=seen.run.state.is_over),
        "run-progress": _progress(seen),
        "run-said": join([said(seen)]),
        "run-numbers": _numbers(seen),
        "run-log": join(["\n".join(seen.picture.log)]),
        "run-side": side_panel.side(seen),
    }


def slow(seen: Seen) -> dict[str, Safe]:
    """Return the parts that may lag a second: curves and what the worker prints."""
    picture, now = seen.picture, seen.picture.now
    parts = {
        "run-printed": join([seen.printed]),
        "run-facts": side_panel.trained(seen),
        "run-samples": metrics.samples(picture),
        "run-scores": metrics.scores(picture),
        "run-earlier": _earlier(picture),
    }
    for key, (name, lines) in _curves(now).items():
        drawn = charts.chart(name, lines, x_end=now.total_steps, from_zero=key != "loss", key=key)
        parts |= {f"chart-{key}": drawn, f"key-{key}": charts.legend(lines)}
    measured = metrics.drawn(now)
    for place in PLACES:
        shown = _card(*measured[place]) if place < len(measured) else Safe("")
        parts[f"measure-{place}"] = shown
    return parts


def _curves(now: Stretch) -> dict[str, tuple[str, list[Line]]]:
    series = now.series
    load = [Line("CPU %", series["cpu_percent"]), Line("GPU %", series["gpu_percent"], "ember")]
    return {
        "loss": ("Loss", metrics.losses(now)),
        "speed": ("Tokens a second", [Line("tokens a second", series["tokens_per_s"], "c2")]),
        "rate": ("Learning rate", [Line("learning rate", series["learning_rate"], "c4")]),
        "load": ("Load", load),
    }


def _earlier(picture: RunPicture) -> Safe:
    """Return the curves of the stages that are over."""
    return join(
        [
            join(
                [
                    el("h2.stage-name", f"Stage {stretch.number} · {stretch.name}".rstrip(" ·")),
                    el("div.two.curves", _loss_of(stretch),
                       [_card(*one) for one in metrics.drawn(stretch)]),
                ]
            )
            for stretch in picture.stretches[:-1]
        ]
    )  # fmt: skip


def _loss_of(stretch: Stretch) -> Safe:
    lines = metrics.losses(stretch)
    figure = charts.chart("Loss", lines, x_end=stretch.total_steps, key=f"{stretch.number}-loss")
    return _card("Loss", charts.legend(lines), figure)


def _card(name: str, key: Safe, figure: Safe) -> Safe:
    return el(
        "section.card",
        el("div.head", el("h2.name", name), el("div.sum", key)),
        el("div.body", figure),
    )


def title(seen: Seen) -> str:
    """Return what the browser's tab says."""
    share = seen.picture.share if seen.picture.is_training else None
    state = words.STATES[str(seen.run.state)][0]
    lead = state if share is None or seen.run.state.is_over else f"{share * 100:.0f} %"
    return f"{lead} · {seen.run.name} · ModelForge"


def said(seen: Seen) -> str:
    """Return what is read aloud: the state and the phase, and every tenth of the training."""
    picture, state = seen.picture, words.STATES[str(seen.run.state)][0]
    if seen.run.state.is_over:
        return f"{state}. {result.in_a_sentence(seen)}"
    if picture.is_training and picture.share is not None:
        return f"Training, {int(picture.share * 10) * 10} percent."
    return picture.phase_text or state


def absent(why: str) -> Safe:
    """Return what stands in place of a run that cannot be shown."""
    return el(
        "div.empty-state",
        el("b", "This run cannot be shown"),
        el("p", why),
        el("a.btn", "All runs", href="/runs"),
        style="width:100%",
    )


def chip(state: str) -> Safe:
    """Return a run's state as a word on its colour."""
    word, tone = words.STATES[state]
    return el("span.chip", word, class_=tone)


def _chart(name: str, key: str) -> Safe:
    return el(
        "section.card",
        el("div.head", el("h2.name", name), el("div.sum", data_part=f"key-{key}")),
        el("div.body", data_part=f"chart-{key}"),
    )


def _log() -> Safe:
    return el(
        "section.card",
        el(
            "div.head",
            el("h2.name", "Log"),
            el(
                "div.sum",
                el("button.btn.s", "Copy", type="button", data_do="copy", data_from="run-log"),
            ),
        ),
        el(
            "div.body",
            el(
                "pre.log",
                data_part="run-log",
                tabindex="0",
                role="log",
                aria_live="off",
                aria_label="Log",
            ),
            el(
                "details.printed",
                el("summary", "What the worker prints"),
                el(
                    "pre.log",
                    data_part="run-printed",
                    tabindex="0",
                    aria_label="What the worker prints",
                ),
            ),
        ),
    )


def _head(seen: Seen) -> Safe:
    run = seen.run
    quantized = "" if run.plan.quantization == "none" else f" over {run.plan.quantization} weights"
    what = "all weights" if run.plan.trains == "all" else f"LoRA{quantized}"
    told = [
        words.model(run.config.get("model_name", "")),
        f"{run.plan.facts.label}, {what}",
        words.plural(int(run.dataset.get("rows") or 0), "row"),
        f"{'started' if run.launched else 'queued'} {words.when(run.began)}",
        *(f"#{tag}" for tag in run.tags),
    ]
    return join(
        [
            el("div", el("h1.title", run.name), el("div.sub", " · ".join(told))),
            el("div.sum", chip(str(run.state))),
        ]
    )


def _progress(seen: Seen) -> Safe:
    picture, over = seen.picture, seen.run.state.is_over
    share = picture.share
    if share is None and seen.run.state.is_active:
        bar = el("div.prog.vague", el("i"), role="progressbar", aria_label="Progress")
    else:
        bar = el(
            "div.prog",
            el("i", style=f"width:{100 * (share or 0):.1f}%"),
            role="progressbar",
            aria_label="Progress",
            aria_valuenow=round(100 * (share or 0)),
            aria_valuemin=0,
            aria_valuemax=100,
        )
    line = summary.progress_line(picture) or words.before(str(seen.run.state))
    left = "" if over else _left(seen)
    if str(seen.run.state) == "stopping":
        line, left = f"Stopping · {line}", ""
    if picture.stages is not None:
        bar = Safe("")  # the stages have bars of their own
    return join(
        [bar, el("div.row", el("span.sub", line), el("span.num", left), style="margin:6px 0 14px")]
    )


def _left(seen: Seen) -> str:
    left, picture = side_panel.left(seen), seen.picture
    if left is not None:
        return "nearly done" if left < 3 else f"{words.duration(left)} left"
    # Of stages that are still to come nothing is known; of the one at work there may be.
    if picture.stages and picture.seconds_left is not None:
        return f"{words.duration(picture.seconds_left)} left of this stage"
    return ""


def _numbers(seen: Seen) -> Safe:
    picture = seen.picture
    now = picture.now
    gpu = now.last("gpu_percent")
    busy = ("GPU", gpu) if gpu is not None else ("CPU", now.last("cpu_percent"))
    memory = words.number(picture.peak_memory_gib, 1)
    told = [
        *((name, value, "") for name, value in metrics.headline(now)),
        ("Tokens a second", words.number(now.last("tokens_per_s")), ""),
        (busy[0], words.number(busy[1]), "%"),
        ("Peak memory", memory, "GiB"),
    ]
    return join(
        [
            el(
                "div.kpi",
                el("small", name),
                el("div.big", value, el("u", unit) if unit and value != words.UNKNOWN else None),
            )
            for name, value, unit in told
        ]
    )
