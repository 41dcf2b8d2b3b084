"""Build: write a few dozen examples, or let a model answer twice and pick the better answer."""

from __future__ import annotations

from typing import Any

from modelforge.forge import Forge
from ui.html.components import tabs
from ui.html.gradio_page import Reply, scene, text
from ui.html.markup import Safe, el, join
from ui.pages import builder, chat
from ui.pages.train import cards

TEMPERATURE = "0.8"


def page(forge: Forge) -> None:
    """Place the page in the current Blocks."""

    def open(sent: Any) -> Reply:
        tuned, bases = chat.talkers(forge)
        return {
            "parts": {
                "voices": chat.choice(tuned, bases, text(sent, "chosen"), "Model", "voice"),
                "pairs-busy": chat.busy(forge.active()),
                "machine-brief": join([cards.machine_brief(forge.machine())]),
            },
        }

    def take(sent: Any) -> Reply:
        return {"rows": builder.imported(text(sent, "name"), text(sent, "text"))}

    def save(sent: Any) -> Reply:
        rows = sent.get("rows") if isinstance(sent, dict) else None
        return {"dataset": builder.saved_examples(forge, text(sent, "name"), rows)}

    def keep(sent: Any) -> Reply:
        pairs = sent.get("pairs") if isinstance(sent, dict) else None
        return {"dataset": builder.saved_pairs(forge, text(sent, "name"), pairs)}

    scene(_body(), "face.build", open, take, save, keep)


def _body() -> Safe:
    back = el("a.btn.s", "Back to training", href="/?new=1")
    return el(
        "div.page.one",
        el(
            "div",
            el("div.pagehead", el("h1", "Build a data set"), back),
            el(
                "section.card",
                el(
                    "div.body.first",
                    tabs("build", (("write", "Write examples"), ("pairs", "Make pairs"))),
                    _panel("write", _write(), shown=True),
                    _panel("pairs", _pairs()),
                ),
            ),
        ),
    )


def _write() -> Safe:
    system = el("input#with-system", type="checkbox")
    return join(
        [
            el(
                "p.help",
                "One question and its answer a row. Paste cells from a spreadsheet into any "
                "field: they spread over the rows below. 20 to 50 rows already show a style.",
            ),
            el(
                "div.row.start.tools",
                el("label.tick", system, "With a system message"),
                el(
                    "label.btn.s",
                    "Import CSV",
                    el("input#csv", type="file", accept=".csv,.tsv,.txt"),
                ),
            ),
            el("div.sheet", _sheet()),
            el(
                "div.row.start",
                el("button.btn.s#add-row", "Add a row", type="button", data_do="add-row"),
                el("span.sub#written", role="status"),
            ),
            _saving("write", "my-examples"),
        ]
    )


def _sheet() -> Safe:
    head = el(
        "tr",
        el("th", "Row", scope="col"),
        el("th.sys", "System", scope="col"),
        el("th", "Question", scope="col"),
        el("th", "Answer", scope="col"),
        el("th", el("span.gone", "Remove"), scope="col"),
    )
    return el("table", el("thead", head), el("tbody#sheet"), aria_label="Examples")


def _pairs() -> Safe:
    return join(
        [
            el(
                "p.help",
                "A model answers every prompt twice, with some freedom (temperature "
                f"{TEMPERATURE}). You pick the better answer; the pairs are what training "
                "from preferences (DPO) learns from.",
            ),
            el(
                "div.two.tight",
                el(
                    "div.f",
                    el("div.lab", el("label", "Prompts, one a line", for_="prompts")),
                    el("textarea#prompts.wide-text", rows="5", spellcheck="false"),
                    el(
                        "label.btn.s.under",
                        "From a file",
                        el("input#prompt-file", type="file", accept=".txt,.md"),
                    ),
                ),
                el(
                    "div",
                    el("div.f", data_part="voices"),
                    el("p.reason", data_part="pairs-busy", role="status"),
                    el(
                        "div.row.start",
                        el("button.btn.go#sample", "Sample answers", type="button",
                           data_do="pairs-sample"),
                        el("span.sub#pairs-count", role="status"),
                    ),
                ),
            ),
            _choice(),
            _saving("pairs", "my-pairs"),
        ]
    )  # fmt: skip


def _choice() -> Safe:
    def answer(place: int) -> Safe:
        return el(
            "button.answer",
            el("span.sub", f"Answer {place} ", el("kbd", str(place), aria_hidden="true")),
            el("span.text"),
            type="button",
            data_do="pairs-pick",
            data_pick=str(place),
            id=f"answer-{place}",
            aria_disabled="true",
        )

    return el(
        "div#choosing",
        el("p.asked-now", role="status"),
        el("div.two.answers-two", answer(1), answer(2)),
        el(
            "div.row.start",
            el("button.btn.s", "Neither: next prompt", type="button", data_do="pairs-skip"),
            el("button.btn.s", "Answer again", type="button", data_do="pairs-again"),
            el("button.btn.s", "Take back the last pick", type="button", data_do="pairs-back"),
            el("span.fine", "Keys: 1, 2"),
        ),
        hidden=True,
    )


def _saving(key: str, name: str) -> Safe:
    return el(
        "div.saving",
        el(
            "div.f",
            el("div.lab", el("label", "Name", for_=f"{key}-name")),
            el(
                "div.in",
                el(f"input#{key}-name", type="text", value=name, autocomplete="off"),
                el("span.unit", ".jsonl"),
            ),
        ),
        el(
            "button.btn.go",
            "Save and use it",
            type="button",
            data_do=f"{key}-save",
            id=f"{key}-save",
        ),
    )


def _panel(key: str, inside: Safe, *, shown: bool = False) -> Safe:
    return el(
        f"div#build-{key}",
        inside,
        role="tabpanel",
        aria_labelledby=f"tab-build-{key}",
        hidden=not shown,
    )
