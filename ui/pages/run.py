"""The run view: progress, numbers, curves, log, and the verdict at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelforge.sight import RunView
from ui import charts, plan, view, words
from ui.charts import Line
from ui.markup import Safe, el, join
from ui.view import RunPicture


@dataclass(frozen=True)
class Seen:
    """One moment of a run: its record, its picture, what was planned, and the worker's own words."""

    run: RunView
    picture: RunPicture
    planned: Mapping[str, Any]
    printed: str = ""
    has_adapter: bool = False


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
                        el("div", data_part="run-progress", aria_live="polite", aria_atomic="true"),
                        el("div.kpis", data_part="run-numbers"),
                    ),
                    aria_label="Progress",
                ),
                el(
                    "div.two",
                    _chart("Loss", "loss", [("c1", "training"), ("ember", "held out")]),
                    _chart("Tokens a second", "speed", []),
                    _chart("Learning rate", "rate", []),
                    _chart("Load", "load", [("c1", "CPU %"), ("ember", "GPU %")]),
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
        "run-numbers": _numbers(seen),
        "run-log": join(["\n".join(seen.picture.log)]),
        "run-side": _side(seen),
    }


def slow(seen: Seen) -> dict[str, Safe]:
    """Return the parts that may lag a second: curves and what the worker prints."""
    picture, end = seen.picture, seen.picture.total_steps
    loss = picture.series["loss"]
    many = len(loss) > 12
    curves = {
        "chart-loss": [
            Line("loss of an update", loss, "c1", faint=True) if many else Line("training loss", loss),
            *([Line("training loss", charts.smooth(loss))] if many else []),
            Line("held-out loss", picture.evals, "ember", dashed=True, dots=True),
        ],
        "chart-speed": [Line("tokens a second", picture.series["tokens_per_s"], "c2")],
        "chart-rate": [Line("learning rate", picture.series["learning_rate"], "c4")],
        "chart-load": [
            Line("CPU percent", picture.series["cpu_percent"]),
            Line("GPU percent", picture.series["gpu_percent"], "ember"),
        ],
    }
    drawn = {
        key: charts.chart(lines[-1].name, lines, x_end=end, from_zero=key != "chart-loss")
        for key, lines in curves.items()
    }
    return {**drawn, "run-printed": join([seen.printed]), "run-facts": _facts(seen)}


def title(seen: Seen) -> str:
    """Return what the browser's tab says."""
    share = seen.picture.share
    state = words.STATES[str(seen.run.state)][0]
    lead = f"{share * 100:.0f} %" if share is not None and not seen.run.state.is_over else state
    return f"{lead} · {seen.run.name} · ModelForge"


def chip(state: str) -> Safe:
    """Return a run's state as a word on its colour."""
    word, tone = words.STATES[state]
    return el("span.chip", word, class_=tone)


def _chart(name: str, key: str, keys: list[tuple[str, str]]) -> Safe:
    legend = [el("span.key", el(f"i.{tone}"), label) for tone, label in keys]
    return el(
        "section.card",
        el("div.head", el("h2.name", name), el("div.sum", legend)),
        el("div.body", data_part=f"chart-{key}"),
    )


def _log() -> Safe:
    return el(
        "section.card",
        el(
            "div.head",
            el("h2.name", "Log"),
            el("div.sum", el("button.btn.s", "Copy", type="button", data_do="copy", data_from="run-log")),
        ),
        el(
            "div.body",
            el("pre.log", data_part="run-log", tabindex="0", role="log", aria_live="off", aria_label="Log"),
            el(
                "details.printed",
                el("summary", "What the worker prints"),
                el("pre.log", data_part="run-printed", tabindex="0", aria_label="What the worker prints"),
            ),
        ),
    )


def _head(seen: Seen) -> Safe:
    run = seen.run
    quantized = "" if run.plan.quantization == "none" else f" over {run.plan.quantization} weights"
    told = [
        str(run.config.get("model_name", "")).rsplit("/", 1)[-1],
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
            "The worker is gone and said nothing: it was killed, the power went, or memory ran out. "
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
    line = view.phase_line(picture) or "Starting the worker"
    left = "" if over else _left(picture)
    if str(seen.run.state) == "stopping":
        line, left = f"Stopping · {line}", ""
    return join([bar, el("div.row", el("span.sub", line), el("span.num", left), style="margin:6px 0 14px")])


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


def _side(seen: Seen) -> Safe:
    run, picture = seen.run, seen.picture
    over = run.state.is_over
    rows = [
        plan.row("As planned", words.duration(seen.planned.get("seconds"))),
        plan.row("It took" if over else "Now expected", words.duration(picture.seconds_expected)),
        plan.row("Planned memory", words.gib(seen.planned.get("memory_total_gib"))),
        plan.row("Measured", words.gib(picture.peak_memory_gib)),
    ]
    end = _ended(seen) if over else _going(seen)
    return join([el("h2.quiet", "This run"), el("hr"), rows, el("hr"), end])


def _going(seen: Seen) -> Safe:
    if str(seen.run.state) == "stopping":
        return el("p.help", "It ends after the update in hand. A worker that does not listen is ended for it.")
    return join(
        [
            el("p.help", "You can close this page. Training goes on, and this view comes back as it is."),
            el(
                "div.buttons",
                el("button.btn#stop-keep", "Stop and keep", type="button", data_do="stop-keep"),
                el("button.btn.danger#stop-discard", "Discard", type="button", data_do="stop-discard",
                   aria_label="Stop and discard"),
            ),
        ]
    )  # fmt: skip


def _ended(seen: Seen) -> Safe:
    run = seen.run
    again = el("a.btn", "Train another", href="/?new=1", data_do="new-run", id="again")
    if not seen.has_adapter:
        return el("div.buttons", again)
    return join(
        [
            el("a.btn.go.wide", "Chat with it", href=f"/chat?run={run.id}", id="chat"),
            el(
                "div.buttons",
                again,
                el("a.btn", "Export", href=f"/export?run={run.id}", id="export"),
            ),
        ]
    )


def _facts(seen: Seen) -> Safe:
    told = seen.picture.plan
    trained, whole = told.get("trained_tokens"), told.get("all_tokens")
    rows = [
        ("Trained rows", words.number(told.get("train_rows"))),
        ("Held-out rows", words.number(told.get("eval_rows"))),
        ("Learned tokens", f"{words.number(trained)} of {words.number(whole)}"),
        ("Rows cut short", words.number(told.get("truncated_rows"))),
        ("Adapter weights", words.number(told.get("trainable_parameters"))),
        ("Precision", f"{told.get('precision', '–')} on {told.get('device', '–')}"),
    ]
    if not told:
        return el("p.help", "What is trained appears here once the rows are tokens.")
    return join([el("h2.quiet", "What is trained"), el("hr"), [plan.row(*row) for row in rows]])
