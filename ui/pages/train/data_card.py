"""The card of the data as it stands still: ways in, and the four tabs about what is inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.data.canonical.convert import SUMMARIZE_PROMPT
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.errors import Problem
from ui.html import format as words
from ui.html.components import free, tabs
from ui.html.markup import Safe, el, join
from ui.pages.train import column_mapping, plan_panel

TAKEN = ".json,.jsonl,.ndjson,.csv,.tsv,.parquet,.arrow,.feather,.txt,.md,.gz,.zst"
FORMATS = "JSON, JSONL, CSV, TSV, Parquet, Arrow, TXT or Markdown, also as .gz or .zst"


def body() -> Safe:
    """Return the ways in, and the tabs, which appear with the data."""
    return join(
        [
            el("div", data_part="samples"),
            el("div.two.tight", _drop(), el("div", _path(), _hub())),
            el("div", data_part="sources"),
            el("div#data-inside", _inside(), hidden=True),
        ]
    )


def _drop() -> Safe:
    return el(
        "div",
        el(
            "label.drop",
            el(
                "input",
                type="file",
                id="file",
                accept=TAKEN,
                multiple=True,
                data_most=str(MAX_UPLOAD_BYTES),
            ),
            el("span", el("b", "Drop files here"), " or choose them"),
            el("small", FORMATS),
            el("span.busy", data_part="upload", aria_live="polite"),
            id="drop",
        ),
        el(
            "p.fine.under",
            "No file yet? ",
            el("a#to-build", "Write examples", href="/build"),
            " or ",
            el("a", "make pairs", href="/build?make=pairs"),
            ".",
        ),
    )


def _path() -> Safe:
    return free(
        "dataset",
        "Or a path on this computer",
        "A file, or a folder of files.",
        "/home/me/data.jsonl",
    )


def _hub() -> Safe:
    return el(
        "details.hub",
        el("summary", "Or from the Hugging Face Hub"),
        el(
            "div.hubs",
            _field("hub-name", "Data set", "owner/name"),
            _field("hub-subset", "Configuration", "if it has several"),
            _field("hub-split", "Split", "train[:500]"),
            el("button.btn.s", "Fetch", type="button", data_do="fetch-hub", id="hub-fetch"),
        ),
        el("p.fine", data_part="hub", role="status"),
    )


def _field(key: str, label: str, placeholder: str) -> Safe:
    return el(
        "div.f",
        el("div.lab", el("label", label, for_=key)),
        el(
            "div.in",
            el(
                f"input#{key}",
                type="text",
                placeholder=placeholder,
                autocomplete="off",
                spellcheck="false",
                data_aside=True,
            ),
        ),
    )


def _inside() -> Safe:
    doctor = join(["Doctor ", el("span", data_part="doctor-count")])
    titles = (
        ("rows", "Rows"),
        ("sees", "What the model sees"),
        ("doctor", doctor),
        ("lengths", "Lengths"),
    )
    sees = join([el("div", data_part="sees"), el("div.after", data_part="doctor-brief")])
    return join(
        [
            tabs("data", titles),
            _panel(
                "rows",
                join([el("div", data_part="data"), el("div#map", data_part="map", hidden=True)]),
                shown=True,
            ),
            _panel("sees", sees),
            _panel("doctor", el("div", data_part="doctor")),
            _panel("lengths", el("div", data_part="lengths")),
        ]
    )


def _panel(key: str, inside: Safe, *, shown: bool = False) -> Safe:
    return el(
        f"div#data-{key}",
        inside,
        role="tabpanel",
        aria_labelledby=f"tab-data-{key}",
        hidden=not shown,
    )


KINDS = {
    "pair": "questions and answers",
    "instruction": "instructions and answers",
    "messages": "conversations",
    "text": "plain text",
    "summary": "texts and summaries",
    "preference": "better and worse answers",
    "preference-label": "answers that are good or not",
    "span": "questions about a passage",
}
SHOWN = 20
LONGEST = 600


def summary(look: DatasetSummary | None, problems: Sequence[Problem] = ()) -> Safe:
    """Return the card's summary line."""
    if look is None:
        if not problems:
            return join(["not chosen yet"])
        # The place in the file is said below.
        return join([f"{problems[0].where.split(', line ')[0]} cannot be used yet"])
    kind = KINDS.get(look.mapping.kind, look.mapping.kind)
    return join([f"{look.name} · {words.plural(look.rows, 'row')} · {kind}"])


def part(
    look: DatasetSummary | None, problems: Sequence[Problem], said: Sequence[Any] = ()
) -> Safe:
    """Return how the rows are read and the first of them, or what is wrong with the data."""
    if look is None:
        reason = "How these rows are read could not be found out; say it yourself."
        how = column_mapping.reading(said, reason, usable=False) if problems else None
        return join([plan_panel.problems(problems), how])
    return join(
        [
            column_mapping.reading(said, look.mapping.reason, usable=True),
            el("p.help", told(look)),
            table(look.examples),
        ]
    )


def several(said: Sequence[Mapping[str, Any]]) -> Safe:
    """Return the list of several sources, each with a way out; nothing for a single one."""
    if len(said) < 2:
        return Safe("")
    return el("ul.sources", [_source(place, one) for place, one in enumerate(said)])


def _source(place: int, one: Mapping[str, Any]) -> Safe:
    name = str(one.get("path", "")).replace("\\", "/").rsplit("/", 1)[-1]
    return el(
        "li",
        el("span", name),
        el(
            "button.btn.s",
            "Leave out",
            type="button",
            data_do="source-out",
            data_place=str(place),
            id=f"out-{place}",
            aria_label=f"Leave out {name}",
        ),
    )


def told(look: DatasetSummary) -> str:
    """Return how many rows stand here, and how long they are."""
    first = min(SHOWN, len(look.examples))
    if not look.sha256:
        return f"The first {words.plural(first, 'row')}. The rest is being read."
    return (
        f"The first {words.plural(first, 'row')} of {look.rows:,}; "
        f"{words.number(look.mean_chars)} characters each on average, "
        f"{words.number(look.longest_chars)} at most."
    )


def table(examples: Sequence[Mapping[str, Any]]) -> Safe:
    """Return canonical rows as a table; long texts are cut."""
    heads = ("Row", *heads_of(examples[0] if examples else {}))
    return el(
        "div.table",
        el(
            "table",
            el("thead", el("tr", [el("th", head, scope="col") for head in heads])),
            el(
                "tbody",
                [
                    el(
                        "tr",
                        el("td", str(place)),
                        [el("td", el("div", cut(cell))) for cell in cells(row)],
                    )
                    for place, row in enumerate(examples[:SHOWN], start=1)
                ],
            ),
        ),
        tabindex="0",
        role="region",
        aria_label="The first rows",
    )


def heads_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the cells of such rows are called."""
    if "chosen" in row:
        return ("Question", "Better answer", "Worse answer")
    if "label" in row:
        return ("Question", "Answer", "Good")
    if "context" in row:
        return ("Passage", "Question", "Answer")
    if "messages" not in row:
        return ("Text",)
    asked = [turn["content"] for turn in row["messages"] if turn.get("role") == "user"]
    is_text = bool(asked) and asked[0].startswith(SUMMARIZE_PROMPT)
    return ("Text", "Summary") if is_text else ("Question", "Answer")


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a row shows, such as question and answer, or its text."""
    if "chosen" in row:
        return (said_last(row.get("prompt")), said_last(row["chosen"]), said_last(row["rejected"]))
    if "label" in row:
        good = "yes" if row["label"] else "no"
        return (said_last(row.get("prompt")), said_last(row.get("completion")), good)
    if "context" in row:
        found = [str(one.get("text", "")) for one in row.get("answers") or ()]
        return (str(row["context"]), str(row.get("question", "")), " / ".join(found))
    turns = row.get("messages")
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        return (str(row.get("text", "")),)
    asked = [str(turn.get("content", "")) for turn in turns if turn.get("role") == "user"]
    answers = [str(turn.get("content", "")) for turn in turns if turn.get("role") == "assistant"]
    more = f"  (+ {words.plural(len(asked) - 1, 'more turn')})" if len(asked) > 1 else ""
    first = asked[0].removeprefix(SUMMARIZE_PROMPT) if asked else ""
    return (first + more, answers[0] if answers else "")


def said_last(turns: object) -> str:
    """Return the last message of a list, or the text itself."""
    if isinstance(turns, Sequence) and not isinstance(turns, str):
        return str(turns[-1].get("content", "")) if turns else ""
    return str(turns or "")


def cut(text: str) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
