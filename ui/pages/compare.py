"""Compare: two runs or more over each other, and everything in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from modelforge.diagnosis.verdict import Verdict
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.runs.downsample import MOST_POINTS, smooth
from modelforge.runs.metrics import AXES
from modelforge.services.compare import Comparison, Line, Result, over
from modelforge.services.export_history import told
from ui.html import charts
from ui.html import format as words
from ui.html.gradio_page import Reply, scene, sentence, text
from ui.html.markup import Safe, el, join
from ui.pages.run import metrics
from ui.pages.run.page import chip
from ui.pages.run.result import KINDS
from ui.pages.train import cards

TONES = ("c1", "ember", "c2", "c4", "c3", "c5", "c6", "c7")
AXIS_TITLES = {"step": "Updates", "tokens": "Tokens", "seconds": "Time"}
AXIS_UNITS = {"step": "update", "tokens": "tokens", "seconds": "seconds of training"}
MOST_CHARTS = 6
# Trainer's name of what is measured while training and on held-out rows → title.
CHARTS = (
    ("loss", False, "Loss"),
    ("loss", True, "Held-out loss"),
    *((name, measure.only_held, measure.title)
      for measure in metrics.MEASURES for name in measure.curves[0][0]),
    ("tokens_per_s", False, "Tokens a second"),
)  # fmt: skip


def page(forge: Forge) -> None:
    """Place the page in the current Blocks."""

    def open(sent: Any) -> Reply:
        axis = text(sent, "axis") if text(sent, "axis") in AXES else "step"
        ids = [one for one in text(sent, "runs").split(",") if one]
        try:
            compared = forge.archive.compare(ids)
            parts = shown(compared, axis, [forge.aid.verdict(one) for one in ids])
        except ForgeError as error:
            parts = {"compared": absent(sentence(error))}
        return {
            "parts": {**parts, "machine-brief": join([cards.machine_brief(forge.machine())])},
        }

    body = el(
        "div.page.one.broad",
        el(
            "div",
            el(
                "div.pagehead",
                el("h1", "Compare runs"),
                el("div.row.start", data_part="compare-out"),
            ),
            el("div", data_part="compared"),
        ),
    )
    scene(body, "face.compare", open)


def absent(why: str) -> Safe:
    """Return what stands there when there is nothing to compare."""
    return el(
        "div.card",
        el(
            "div.empty-state",
            el("b", "Choose two runs or more"),
            el("p", why),
            el("a.btn.go", "Choose runs", href="/runs"),
        ),
    )


def shown(
    compared: Comparison, axis: str, verdicts: Sequence[Verdict | None] = ()
) -> dict[str, Safe]:
    """Return the parts of the page."""
    query = urlencode({"runs": ",".join(run.id for run in compared.runs)})
    return {
        "compare-out": join(
            [
                el("a.btn", "Table (CSV)", href=f"/api/runs/compare.csv?{query}", download=True),
                el("a.btn", "Page (HTML)", href=f"/api/runs/compare.html?{query}", download=True),
            ]
        ),
        "compared": join(
            [
                _results(compared.runs, verdicts),
                _charts(compared, axis),
                _differences(compared),
                _data(compared),
                _versions(compared),
            ]
        ),
    }


def _results(runs: Sequence[Result], verdicts: Sequence[Verdict | None]) -> Safe:
    judged = [("How it went", [_verdict(one) for one in verdicts])] if any(verdicts) else []
    lines: list[tuple[object, Sequence[object]]] = [
        ("Ended", [_ending(run) for run in runs]),
        *judged,
        ("Updates", [words.number(run.updates) for run in runs]),
        ("Tokens", [words.number(run.tokens) for run in runs]),
        ("Time on updates", [words.duration(run.seconds) for run in runs]),
        ("Tokens a second", [words.number(run.tokens_per_s) for run in runs]),
        ("Loss", [words.number(run.loss, 3) for run in runs]),
        ("Held-out loss", _best([run.eval_loss for run in runs])),
        ("Best held-out loss", _best([run.best_eval_loss for run in runs])),
        *_scores(runs),
        ("On the disk", [words.size(run.bytes) for run in runs]),
    ]
    return _card("What came of them", "", _table(runs, lines))


def _scores(runs: Sequence[Result]) -> list[tuple[str, list[Any]]]:
    after = [(run.scores or {}).get("after") or {} for run in runs]
    names = [name for name in metrics.SCORES if any(name in each for each in after)]
    return [
        (metrics.SCORES[name][0], [words.number(each.get(name), 3) for each in after])
        for name in names
    ]


def _best(values: Sequence[float | None]) -> list[Safe]:
    """Return losses, the lowest marked where they differ."""
    told_of = [value for value in values if value is not None]
    lowest = min(told_of) if len(set(told_of)) > 1 else None
    return [
        join(
            [
                words.number(value, 3),
                el("span.chip.good.best", "lowest") if value == lowest else None,
            ]
        )
        if value is not None
        else join([words.UNKNOWN])
        for value in values
    ]


def _ending(run: Result) -> Safe:
    what = (run.ending or {}).get("what")
    return join([chip(run.state), el("small.cause", str(what)) if what else None])


def _verdict(verdict: Verdict | None) -> Safe:
    if verdict is None:
        return join([words.UNKNOWN])
    word, tone = KINDS[verdict.kind]
    return join([el("span.chip", word, class_=tone or None), el("small", verdict.text)])


def _charts(compared: Comparison, axis: str) -> Safe:
    switch = el(
        "div.switch",
        [
            el("button", title, type="button", data_do="axis", data_axis=key, id=f"axis-{key}",
               aria_pressed="true" if key == axis else "false")
            for key, title in AXIS_TITLES.items()
        ],
        role="group",
        aria_label="Curves over",
    )  # fmt: skip
    drawn: list[Safe] = []
    seen: set[str] = set()
    for name, held, title in CHARTS:
        if title in seen or len(drawn) >= MOST_CHARTS:
            continue
        lines = [
            charts.Line(run.label, over(curves, name, axis, held=held, most=MOST_POINTS),
                        TONES[at % len(TONES)], dashed=held, dots=held)
            for at, (run, curves) in enumerate(zip(compared.runs, compared.curves, strict=True))
        ]  # fmt: skip
        if not any(line.points for line in lines):
            continue
        seen.add(title)
        lines = [line for one in lines for line in _smoothed(one)]
        figure = charts.chart(title, lines, key=f"{name}-{held}", unit=AXIS_UNITS[axis])
        drawn.append(_card(title, "", figure))
    head = el("div.pagehead.under", el("h2.quiet", "Curves"), _keys(compared.runs), switch)
    return join([head, el("div.two.curves", drawn or el("p.help", "Nothing was measured."))])


def _smoothed(line: charts.Line) -> list[charts.Line]:
    if line.dashed or len(line.points) <= metrics.SMOOTHED:
        return [line]
    behind = charts.Line(line.name, line.points, line.tone, faint=True)
    return [behind, charts.Line(line.name, smooth(line.points), line.tone)]


def _keys(runs: Sequence[Result]) -> Safe:
    return el(
        "div.keys",
        [
            el("span.key", el(f"i.{TONES[at % len(TONES)]}"), run.label)
            for at, run in enumerate(runs)
        ],
    )


def _differences(compared: Comparison) -> Safe:
    lines = [*compared.settings, *compared.effect]
    same = f"{words.plural(compared.same_settings, 'setting')} the same"
    if not lines:
        return _card("Settings", same, el("p.help", "All settings are the same."))
    return _card("Settings that differ", same, _lines(compared.runs, lines))


def _data(compared: Comparison) -> Safe:
    marks = next(line for line in compared.data if line.name == "sha256")
    if not marks.differs:
        return _card(
            "Data",
            "the same, by its fingerprint",
            _lines(compared.runs, [line for line in compared.data if line.name != "mapping"]),
        )
    return _card("Data", "not the same", _lines(compared.runs, compared.data))


def _versions(compared: Comparison) -> Safe:
    same = f"{compared.same_versions} the same"
    if not compared.versions:
        return _card("Versions", same, el("p.help", "All ran on the same versions."))
    return _card("Versions that differ", same, _lines(compared.runs, compared.versions))


def _lines(runs: Sequence[Result], lines: Sequence[Line]) -> Safe:
    named = [
        (el("span", line.label, title=line.name), [told(value) for value in line.values])
        for line in lines
    ]
    return _table(runs, named)


def _table(runs: Sequence[Result], lines: Sequence[tuple[object, Sequence[object]]]) -> Safe:
    head = [
        el("th", el(f"i.dot.{TONES[at % len(TONES)]}"), el("a", run.label, href=f"/?run={run.id}"),
           scope="col")
        for at, run in enumerate(runs)
    ]  # fmt: skip
    return el(
        "div.table.against",
        el(
            "table",
            el("thead", el("tr", el("th"), head)),
            el("tbody", [
                el("tr", el("th", name, scope="row"), [el("td", value) for value in values])
                for name, values in lines
            ]),
        ),
        tabindex="0",
        role="region",
        aria_label="Runs side by side",
    )  # fmt: skip


def _card(title: str, summary: str, body: Safe) -> Safe:
    return el(
        "section.card",
        el("div.head", el("h2.name", title), el("div.sum", summary)),
        el("div.body", body),
    )
