"""What a run measures beside its loss: curves by the trainer's names, samples and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelforge.runs.downsample import Point, smooth
from ui.html import charts
from ui.html import format as words
from ui.html.charts import Line
from ui.html.markup import Safe, el, join
from ui.pages.run.state import Curves, RunPicture, Stretch

MOST_CHARTS = 4
MOST_SAMPLES = 12
SMOOTHED = 24


@dataclass(frozen=True)
class Measure:
    """A chart of one thing: its curves as (the trainer's names, ours, colour).

    With `held` the same names are drawn from the held-out rows too; `only_held` draws only those.
    """

    title: str
    curves: tuple[tuple[tuple[str, ...], str, str], ...]
    held: bool = True
    only_held: bool = False


def _one(title: str, *names: str, held: bool = True) -> Measure:
    return Measure(title, ((names, "training", "c1"),), held)


def _checked(title: str, *curves: tuple[str, str, str]) -> Measure:
    drawn = tuple(((name,), label, tone) for name, label, tone in curves)
    return Measure(title, drawn, only_held=True)


# The first that have points are drawn, in this order.
MEASURES = (
    _one("Mean reward", "reward"),
    _one("Reward margin", "rewards/margins", "margin"),
    _one("Better preferred", "rewards/accuracies", "accuracy"),
    Measure(
        "Rewards of both answers",
        ((("rewards/chosen",), "better", "c2"), (("rewards/rejected",), "worse", "c4")),
        held=False,
    ),
    _one("Distance (KL)", "kl", held=False),
    _one("Tokens an answer", "completions/mean_length", held=False),
    _checked("Answers found", ("f1", "F1", "c1"), ("exact_match", "exact match", "ember")),
    _checked("ROUGE", ("rouge1", "ROUGE-1", "c1"), ("rougeL", "ROUGE-L", "ember")),
    _checked("Perplexity", ("perplexity", "held out", "ember")),
    _one("Tokens guessed right", "mean_token_accuracy"),
)
# Measure → how it is said, what it means, and whether more is better.
SCORES = {
    "reward": ("Mean reward", "what the judge gives its answers; more is better"),
    "rouge1": ("ROUGE-1", "share of words that the summary has in common with yours"),
    "rouge2": ("ROUGE-2", "the same for pairs of words"),
    "rougeL": ("ROUGE-L", "the same for words in their order"),
    "rougeLsum": ("ROUGE-Lsum", "the same, sentence by sentence"),
    "exact_match": ("Exact match", "share of answers that are yours, letter by letter"),
    "f1": ("F1", "how much of your answers its words hit"),
    "perplexity": ("Perplexity", "how surprised it is by the right text; lower is better"),
    "bits_per_byte": ("Bits per byte", "the same in bits, whatever the tokens; lower is better"),
}


def drawn(stretch: Stretch) -> list[tuple[str, Safe, Safe]]:
    """Return the charts of what a stage has measured: title, legend and curve."""
    found: list[tuple[str, Safe, Safe]] = []
    for place, measure in enumerate(MEASURES):
        lines = _lines(stretch, measure)
        is_spare = measure is MEASURES[-1] and len(found) > 1
        if is_spare or not any(line.points for line in lines):
            continue
        figure = charts.chart(
            measure.title, lines, x_end=stretch.total_steps, key=f"{stretch.number}-{place}"
        )
        found.append((measure.title, charts.legend(lines), figure))
    return found[:MOST_CHARTS]


def losses(stretch: Stretch) -> list[Line]:
    """Return the curves of the loss, in training and on held-out rows."""
    held = Line("held out", stretch.evals, "ember", dashed=True, dots=True)
    return [*_smoothed("training", stretch.series["loss"], "c1"), held]


def samples(picture: RunPicture) -> Safe:
    """Return the newest answers with their rewards; nothing while there is none."""
    newest = list(picture.samples)[:MOST_SAMPLES]
    if not newest:
        return Safe("")
    rewarded = any(one.get("reward") is not None for one in newest)
    staged = picture.stages is not None
    head = ["Update", "Question", "Its answer", "Reward" if rewarded else None]
    return el(
        "section.card",
        el(
            "div.head",
            el("h2.name", "How its answers change"),
            el("div.sum", f"the newest {len(newest)}" if len(newest) > 1 else "the first"),
        ),
        el(
            "div.body",
            el(
                "div.table.samples",
                el(
                    "table",
                    el("thead", el("tr", [el("th", one, scope="col") for one in head if one])),
                    el("tbody", [_sample(one, staged=staged, rewarded=rewarded) for one in newest]),
                ),
                tabindex="0",
                role="region",
                aria_label="How its answers change",
            ),
        ),
    )


def scores(picture: RunPicture) -> Safe:
    """Return what the answers to held-out rows are worth, before and after; nothing before that."""
    told = picture.scores
    after = told.get("after") if told else None
    if not told or not isinstance(after, dict) or not after:
        return Safe("")
    before = told.get("before") if isinstance(told.get("before"), dict) else None
    head = ["Measure", "Before" if before else None, "After", "What it says"]
    rows = [_score(name, before, value) for name, value in after.items()]
    count = told.get("rows")
    return el(
        "section.card",
        el(
            "div.head",
            el("h2.name", "What it can do now"),
            el("div.sum", f"on {words.plural(count, 'held-out row')}" if count else None),
        ),
        el(
            "div.body",
            el(
                "div.table.scores",
                el(
                    "table",
                    el("thead", el("tr", [el("th", one, scope="col") for one in head if one])),
                    el("tbody", rows),
                ),
            ),
        ),
    )


def _lines(stretch: Stretch, measure: Measure) -> list[Line]:
    lines: list[Line] = []
    for names, label, tone in measure.curves:
        if measure.only_held:
            lines.append(Line(label, _points(stretch.held, names), tone, dots=True))
            continue
        lines += _smoothed(label, _points(stretch.metrics, names), tone)
        if measure.held:
            held = _points(stretch.held, names)
            lines.append(Line("held out", held, "ember", dashed=True, dots=True))
    return lines


def _points(curves: Curves, names: Sequence[str]) -> Sequence[Point]:
    return next((curves[name] for name in names if curves.get(name)), [])


def _smoothed(label: str, points: Sequence[Point], tone: str) -> list[Line]:
    if len(points) <= SMOOTHED:
        return [Line(label, points, tone)]
    return [Line("each update", points, tone, faint=True), Line(label, smooth(points), tone)]


def _sample(one: dict[str, Any], *, staged: bool, rewarded: bool) -> Safe:
    step = words.number(one.get("step"))
    where = f"{one['stage']} · {step}" if staged and one.get("stage") else step
    reward = one.get("reward")
    return el(
        "tr",
        el("td", where),
        el("td", el("div", str(one.get("prompt", "")), title=str(one.get("prompt", "")))),
        el("td", el("div", str(one.get("completion", "")), title=str(one.get("completion", "")))),
        el("td.num", words.number(reward, 2)) if rewarded else None,
    )


def _score(name: str, before: dict[str, Any] | None, value: Any) -> Safe:
    called, meaning = SCORES.get(name, (name, ""))
    return el(
        "tr",
        el("th", called, scope="row"),
        el("td.num", _figure(before.get(name))) if before else None,
        el("td.num", el("b", _figure(value))),
        el("td", meaning),
    )


def _figure(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return words.UNKNOWN
    return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"


def headline(stretch: Stretch) -> list[tuple[str, str]]:
    """Return the two numbers that tell most about this way of learning."""
    if "reward" in stretch.metrics:
        kl = stretch.last("kl")
        return [("Mean reward", words.number(stretch.last("reward"), 2)),
                ("Distance (KL)", words.number(kl, 3))]  # fmt: skip
    for margin, right in (("rewards/margins", "rewards/accuracies"), ("margin", "accuracy")):
        if margin in stretch.metrics or margin in stretch.held:
            share = _either(stretch, right)
            told = words.percent(None if share is None else 100 * share)
            return [("Reward margin", words.number(_either(stretch, margin), 2)),
                    ("Better preferred", told)]  # fmt: skip
    return [("Loss", words.number(stretch.last("loss"), 2)),
            ("Held-out loss", words.number(stretch.last("eval"), 2))]  # fmt: skip


def _either(stretch: Stretch, name: str) -> float | None:
    held = stretch.last_held(name)
    return stretch.last(name) if held is None else held


def stages(picture: RunPicture, *, over: bool) -> Safe:
    """Return each stage with a bar of its own; nothing for a run that has none."""
    if picture.stages is None:
        return Safe("")
    known = {one.number: one for one in picture.stretches}
    return join(
        [_stage(number, picture, known.get(number), over=over)
         for number in range(1, picture.stages + 1)]
    )  # fmt: skip


def _stage(number: int, picture: RunPicture, stretch: Stretch | None, *, over: bool) -> Safe:
    is_now = stretch is picture.now and not over
    passed = stretch is not None and stretch is not picture.now
    ended = picture.ending is not None and picture.ending.kind == "finished"
    share = 1.0 if passed or (stretch and ended) else (stretch.share or 0.0) if stretch else 0.0
    name = (stretch.name if stretch else "") or ("still to come" if stretch is None else "")
    title = f"Stage {number} of {picture.stages}" + (f" · {name}" if name else "")
    return el(
        "div.stage",
        el("div.row", el("span", title), el("span.num", f"{100 * share:.0f} %")),
        el(
            "div.prog",
            el("i", style=f"width:{100 * share:.1f}%"),
            role="progressbar",
            aria_label=title,
            aria_valuenow=round(100 * share),
            aria_valuemin=0,
            aria_valuemax=100,
        ),
        class_="now" if is_now else None,
    )
