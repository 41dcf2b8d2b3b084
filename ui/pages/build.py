"""Build: write a few dozen examples, or let a model answer twice and pick the better answer."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from modelforge.data.columns.detect import detect_mapping
from modelforge.data.formats.read import read_rows
from modelforge.errors import ConfigError, DataError, Problem
from modelforge.forge import Forge
from modelforge.units import MIB
from ui.html.components import tabs
from ui.html.gradio_page import Reply, scene, text
from ui.html.markup import Safe, el, join
from ui.pages import chat
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
        return {"rows": imported(text(sent, "name"), text(sent, "text"))}

    def save(sent: Any) -> Reply:
        rows = sent.get("rows") if isinstance(sent, dict) else None
        return {"dataset": saved_examples(forge, text(sent, "name"), rows)}

    def keep(sent: Any) -> Reply:
        pairs = sent.get("pairs") if isinstance(sent, dict) else None
        return {"dataset": saved_pairs(forge, text(sent, "name"), pairs)}

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


MOST_ROWS = 2000
LIMIT_BYTES = 64 * MIB
_UNSAFE = re.compile(r"[^\w.-]+")


def imported(name: str, text: str) -> list[dict[str, str]]:
    """Return the rows of a table in text as examples; raises DataError, which names the line.

    Columns that name questions and answers are found; else the first two are taken.
    """
    suffix = ".tsv" if name.lower().endswith(".tsv") else ".csv"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{stem(name)}{suffix}"
        path.write_text(text, encoding="utf-8")
        rows = [row.data for row in islice(read_rows(path), MOST_ROWS)]
    fields = _fields(rows, name)
    return [{part: str(row.get(column) or "") for part, column in fields.items()} for row in rows]


def saved_examples(forge: Forge, name: str, rows: object) -> str:
    """Keep written examples as conversations; return what `dataset` says for them."""
    given = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    told = [{part: _text(row, part) for part in ("system", "question", "answer")} for row in given]
    full = [row for row in told if row["question"] or row["answer"]]
    _require(full, "example", "Write a question and its answer.")
    for place, row in enumerate(full, start=1):
        for part in ("question", "answer"):
            if not row[part]:
                what = f"Example {place} has no {part}."
                raise ConfigError(Problem("rows", what, "Write it, or remove the example."))
    return _kept(forge, name or "examples", [_conversation(row) for row in full])


def saved_pairs(forge: Forge, name: str, pairs: object) -> str:
    """Keep chosen answers as preferences; return what `dataset` says for them."""
    given = [row for row in pairs if isinstance(row, Mapping)] if isinstance(pairs, list) else []
    full = [{part: _text(row, part) for part in ("prompt", "chosen", "rejected")} for row in given]
    full = [row for row in full if all(row.values())]
    _require(full, "pair", "Pick the better answer of a prompt.")
    return _kept(forge, name or "pairs", full)


def stem(name: str) -> str:
    """Return a name as a file may have it, without its ending."""
    safe = _UNSAFE.sub("-", Path(name.strip()).stem).strip("-.")
    return safe[:80] or "examples"


def _conversation(row: Mapping[str, str]) -> dict[str, Any]:
    turns = (("system", "system"), ("user", "question"), ("assistant", "answer"))
    return {"messages": [{"role": role, "content": row[part]} for role, part in turns if row[part]]}


def _kept(forge: Forge, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    lines = (f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)
    return forge.data.upload(f"{stem(name)}.jsonl", lines, LIMIT_BYTES).name


def _require(rows: Sequence[Any], noun: str, remedy: str) -> None:
    if not rows:
        raise ConfigError(Problem("rows", f"There is no {noun} yet.", remedy))
    if len(rows) > MOST_ROWS:
        what = f"{len(rows):,} are more than the {MOST_ROWS:,} that fit here."
        raise ConfigError(Problem("rows", what, "Save them in two parts."))


def _fields(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, str]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    try:
        found = detect_mapping(rows, name)
    except DataError:
        found = None
    named = {"system": "system", "prompt": "question", "instruction": "question"}
    named["answer"] = "answer"
    if found is not None and found.kind in ("pair", "instruction"):
        return {named[part]: col for part, col in found.fields.items() if part in named}
    if len(columns) < 2:
        what = "has one column, where a question and an answer are needed."
        raise DataError(Problem(name, what, "Part them by commas, semicolons or tabs."))
    return {"question": columns[0], "answer": columns[1]}


def _text(row: Mapping[str, Any], part: str) -> str:
    value = row.get(part)
    return value.strip() if isinstance(value, str) else ""
