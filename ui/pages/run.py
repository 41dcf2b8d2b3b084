"""The run view: progress, numbers, curves, log, and the verdict at the end."""

from __future__ import annotations

from ui import beside, charts, view, words
from ui.beside import Seen
from ui.charts import Line
from ui.markup import Safe, el, join
from ui.view import RunPicture


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
                        el("div", data_part="run-progress"),
                        el("p.gone", data_part="run-said", role="status"),
                        el("div.kpis", data_part="run-numbers"),
                    ),
                    aria_label="Progress",
                ),
                el(
                    "div.two",
                    _chart("Loss", "loss"),
                    _chart("Tokens a second", "speed"),
                    _chart("Learning rate", "rate"),
                    _chart("Load", "load"),
                ),
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
        "run-verdict": _verdict(seen),
        "run-progress": _progress(seen),
        "run-said": join([said(seen)]),
        "run-numbers": _numbers(seen),
        "run-log": join(["\n".join(seen.picture.log)]),
        "run-side": beside.side(seen),
    }


def slow(seen: Seen) -> dict[str, Safe]:
    """Return the parts that may lag a second: curves and what the worker prints."""
    picture, end = seen.picture, seen.picture.total_steps
    parts = {"run-printed": join([seen.printed]), "run-facts": beside.trained(seen)}
    for key, (name, lines) in _curves(picture).items():
        drawn = charts.chart(name, lines, x_end=end, from_zero=key != "loss")
        parts |= {f"chart-{key}": drawn, f"key-{key}": charts.legend(lines)}
    return parts


def _curves(picture: RunPicture) -> dict[str, tuple[str, list[Line]]]:
    series = picture.series
    loss = [Line("training", series["loss"])]
    if len(series["loss"]) > 24:
        raw = Line("each update", series["loss"], faint=True)
        loss = [raw, Line("training", charts.smooth(series["loss"]))]
    held = Line("held out", picture.evals, "ember", dashed=True, dots=True)
    load = [Line("CPU %", series["cpu_percent"]), Line("GPU %", series["gpu_percent"], "ember")]
    return {
        "loss": ("Loss", [*loss, held]),
        "speed": ("Tokens a second", [Line("tokens a second", series["tokens_per_s"], "c2")]),
        "rate": ("Learning rate", [Line("learning rate", series["learning_rate"], "c4")]),
        "load": ("Load", load),
    }


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
        return f"{state}. {view.verdict(picture)}"
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
    told = [
        words.model(run.config.get("model_name", "")),
        f"LoRA{quantized}",
        words.plural(int(run.dataset.get("rows") or 0), "row"),
        f"started {words.when(run.created)}",
    ]
    return join(
        [
            el("div", el("h1.title", run.name), el("div.sub", " · ".join(told))),
            el("div.sum", chip(str(run.state))),
        ]
    )


def _verdict(seen: Seen) -> Safe:
    state = str(seen.run.state)
    said = view.verdict(seen.picture)
    if state == "lost":
        said = (
            "The worker is gone and said nothing: killed, without power, or out of memory. "
            "What it printed last is below the log."
        )
    if not said or not seen.run.state.is_over:
        return Safe("")
    tone = {"finished": "", "stopped": "warn"}.get(state, "bad")
    return el("p.verdict", said, class_=tone, style="margin-bottom:14px")


def _progress(seen: Seen) -> Safe:
    picture, over = seen.picture, seen.run.state.is_over
    share = picture.share
    if share is None and not over:
        bar = el("div.prog.vague", el("i"), role="progressbar", aria_label="Progress")
    else:
        whole = round(100 * (share or 0))
        bar = el(
            "div.prog",
            el("i", style=f"width:{100 * (share or 0):.1f}%"),
            role="progressbar",
            aria_label="Progress",
            aria_valuenow=whole,
            aria_valuemin=0,
            aria_valuemax=100,
        )
    line = view.progress_line(picture) or "Starting the worker"
    left = "" if over else _left(picture)
    if str(seen.run.state) == "stopping":
        line, left = f"Stopping · {line}", ""
    return join(
        [bar, el("div.row", el("span.sub", line), el("span.num", left), style="margin:6px 0 14px")]
    )


def _left(picture: RunPicture) -> str:
    left = picture.seconds_left
    if left is None:
        return ""
    return "nearly done" if left < 3 else f"{words.duration(left)} left"


def _numbers(seen: Seen) -> Safe:
    picture = seen.picture
    gpu = picture.last("gpu_percent")
    busy = ("GPU", gpu) if gpu is not None else ("CPU", picture.last("cpu_percent"))
    memory = words.number(picture.peak_memory_gib, 1)
    told = [
        ("Loss", words.number(picture.last("loss"), 2), ""),
        ("Held-out loss", words.number(picture.last("eval"), 2), ""),
        ("Tokens a second", words.number(picture.last("tokens_per_s")), ""),
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
