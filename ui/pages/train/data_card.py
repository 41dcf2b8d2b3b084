"""The data card: uploads, paths and the Hub, and tabs with the rows, tokens, checks and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.data.canonical.convert import SUMMARIZE_PROMPT
from modelforge.data.checks.summary import DatasetSummary
from modelforge.data.sources.uploads import MAX_UPLOAD_BYTES
from modelforge.errors import Problem
from ui.html import format as fmt
from ui.html.components import field, tab_panel, table, tabs, text_setting
from ui.html.markup import EMPTY, Markup, el, join
from ui.pages.train import column_mapping, plan_panel

ACCEPTED = ".json,.jsonl,.ndjson,.csv,.tsv,.parquet,.arrow,.feather,.txt,.md,.gz,.zst"
FORMATS = "JSON, JSONL, CSV, TSV, Parquet, Arrow, TXT or Markdown, also as .gz or .zst"
# Kind of a row → its name.
KINDS = {
    "pair": "questions and answers",
    "instruction": "instructions and answers",
    "messages": "conversations",
    "text": "plain text",
    "summary": "texts and summaries",
    "preference": "preference pairs",
    "preference-label": "answers labelled good or bad",
    "span": "questions with answers in a passage",
}
MAX_ROWS = 20
MAX_CHARS = 600


def body() -> Markup:
    """Return the content of the card, empty of data."""
    path = text_setting(
        "dataset",
        "Or a path on this computer",
        "A file, or a folder of files.",
        "/home/me/data.jsonl",
    )
    return join(
        [
            el("div", data_part="samples"),
            el("div.two.tight", _drop(), el("div", path, _hub())),
            el("div", data_part="sources"),
            el("div#data-content", _tabs(), hidden=True),
        ]
    )


def _drop() -> Markup:
    file = el(
        "input#file", type="file", accept=ACCEPTED, multiple=True, data_limit=MAX_UPLOAD_BYTES
    )
    return el(
        "div",
        el(
            "label.drop#drop",
            file,
            el("span", el("b", "Drop files here"), " or choose files"),
            el("small", FORMATS),
            el("span.busy", data_part="upload", aria_live="polite"),
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


def _hub() -> Markup:
    fetch = el("button.btn.s#hub-fetch", "Download", type="button", data_action="fetch-hub")
    return el(
        "details.hub",
        el("summary", "Or from the Hugging Face Hub"),
        el(
            "div.hubs",
            _hub_field("hub-name", "Dataset", "owner/name"),
            _hub_field("hub-subset", "Configuration", "if it has several"),
            _hub_field("hub-split", "Split", "train[:500]"),
            fetch,
        ),
        el("p.fine", data_part="hub", role="status"),
    )


def _hub_field(key: str, label: str, placeholder: str) -> Markup:
    box = el(
        f"input#{key}", type="text", placeholder=placeholder, autocomplete="off", spellcheck="false"
    )
    return field(key, label, el("div.in", box))


def _tabs() -> Markup:
    checks = join(["Checks ", el("span", data_part="checks-count")])
    titles = (
        ("rows", "Rows"),
        ("tokens", "What the model sees"),
        ("checks", checks),
        ("lengths", "Lengths"),
    )
    rows = [el("div", data_part="data"), el("div#mapping", data_part="mapping", hidden=True)]
    tokens = [el("div", data_part="tokens"), el("div.after", data_part="checks-brief")]
    return join(
        [
            tabs("data", titles),
            tab_panel("data", "rows", rows, is_shown=True),
            tab_panel("data", "tokens", tokens),
            tab_panel("data", "checks", el("div", data_part="checks")),
            tab_panel("data", "lengths", el("div", data_part="lengths")),
        ]
    )


def summary(look: DatasetSummary | None, problems: Sequence[Problem] = ()) -> Markup:
    """Return the summary line of the card."""
    if look is None:
        if not problems:
            return join(["not chosen yet"])
        # The line of the error is shown below.
        return join([f"{problems[0].where.split(', line ')[0]} cannot be used yet"])
    kind = KINDS.get(look.mapping.kind, look.mapping.kind)
    return join([f"{look.name} · {fmt.plural(look.rows, 'row')} · {kind}"])


def rows(
    look: DatasetSummary | None, problems: Sequence[Problem], sources: Sequence[Any] = ()
) -> Markup:
    """Return how the rows are read and the first rows, or the problems of the data."""
    if look is None:
        reason = "The format of these rows could not be detected. Choose it yourself."
        reading = column_mapping.reading(sources, reason, is_usable=False) if problems else None
        return join([plan_panel.problem_list(problems), reading])
    return join(
        [
            column_mapping.reading(sources, look.mapping.reason, is_usable=True),
            el("p.help", row_count_text(look)),
            row_table(look.examples),
        ]
    )


def source_list(sources: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the sources with a button to remove each; nothing for a single one."""
    if len(sources) < 2:
        return EMPTY
    return el("ul.sources", [_source(place, source) for place, source in enumerate(sources)])


def _source(place: int, source: Mapping[str, Any]) -> Markup:
    name = fmt.file_name(source.get("path", ""))
    remove = el(
        "button.btn.s",
        "Remove",
        type="button",
        data_action="remove-source",
        data_place=str(place),
        id=f"remove-source-{place}",
        aria_label=f"Remove {name}",
    )
    return el("li", el("span", name), remove)


def row_count_text(look: DatasetSummary) -> str:
    """Return how many rows are shown, and how long they are."""
    first = fmt.plural(min(MAX_ROWS, len(look.examples)), "row")
    if not look.sha256:
        return f"The first {first}. The rest is being read."
    return (
        f"The first {first} of {look.rows:,}; {fmt.number(look.mean_chars)} characters per row on "
        f"average, at most {fmt.number(look.longest_chars)}."
    )


def row_table(examples: Sequence[Mapping[str, Any]]) -> Markup:
    """Return canonical rows as a table, with long texts truncated."""
    heads = ("Row", *column_titles(examples[0] if examples else {}))
    lines = [
        el(
            "tr",
            el("td", str(place)),
            [el("td", el("div", truncated(cell))) for cell in cells(row)],
        )
        for place, row in enumerate(examples[:MAX_ROWS], start=1)
    ]
    return table(heads, lines, "The first rows")


def column_titles(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the titles of the cells of such rows."""
    if "chosen" in row:
        return ("Prompt", "Chosen", "Rejected")
    if "label" in row:
        return ("Prompt", "Completion", "Good")
    if "context" in row:
        return ("Context", "Question", "Answer")
    if "messages" not in row:
        return ("Text",)
    questions = [message["content"] for message in row["messages"] if message.get("role") == "user"]
    is_summary = bool(questions) and questions[0].startswith(SUMMARIZE_PROMPT)
    return ("Text", "Summary") if is_summary else ("Question", "Answer")


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts of a row, such as question and answer."""
    if "chosen" in row:
        return tuple(last_text(row.get(name)) for name in ("prompt", "chosen", "rejected"))
    if "label" in row:
        is_good = "yes" if row["label"] else "no"
        return (last_text(row.get("prompt")), last_text(row.get("completion")), is_good)
    if "context" in row:
        answers = [str(answer.get("text", "")) for answer in row.get("answers") or ()]
        return (str(row["context"]), str(row.get("question", "")), " / ".join(answers))
    messages = row.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return (str(row.get("text", "")),)
    questions = _contents(messages, "user")
    count = len(questions) - 1
    more = f"  (+ {fmt.plural(count, 'more turn')})" if count > 0 else ""
    first = questions[0].removeprefix(SUMMARIZE_PROMPT) if questions else ""
    return (first + more, next(iter(_contents(messages, "assistant")), ""))


def _contents(messages: Sequence[Mapping[str, Any]], role: str) -> list[str]:
    return [str(each.get("content", "")) for each in messages if each.get("role") == role]


def last_text(value: object) -> str:
    """Return the last message of a list, or a text itself."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return str(value[-1].get("content", "")) if value else ""
    return str(value or "")


def truncated(text: str) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} …"
