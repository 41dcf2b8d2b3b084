"""The data card: uploads, paths and the Hub, and tabs with the rows, tokens, checks and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelforge.data.canonical.convert import SUMMARIZE_PROMPT
from modelforge.data.checks.summary import DatasetSummary
from modelforge.errors import Problem
from ui.html import format as fmt
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render
from ui.pages.train import column_mapping, plan_panel

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
    "segments": "text in labelled segments",
}
MAX_ROWS = 20
MAX_CHARS = 600


def summary(summary: DatasetSummary | None, problems: Sequence[Problem] = ()) -> Markup:
    """Return the summary line of the card."""
    if summary is None:
        if not problems:
            return join(["not chosen yet"])
        # The line of the error is shown below.
        return join([f"{problems[0].where.split(', line ')[0]} cannot be used yet"])
    kind = KINDS.get(summary.mapping.kind, summary.mapping.kind)
    return join([f"{summary.name} · {fmt.plural(summary.rows, 'row')} · {kind}"])


def rows(summary: DatasetSummary | None) -> Markup:
    """Return the first rows as they are trained."""
    if summary is None:
        return el("p.help", "This appears once the rows can be read.")
    return join([el("p.help", row_count_text(summary)), row_table(summary.examples)])


def reading(
    summary: DatasetSummary | None,
    problems: Sequence[Problem],
    sources: Sequence[Any] = (),
    *,
    has_rows: bool = True,
) -> Markup:
    """Return how the rows are read, or the problems of the data.

    `has_rows` is whether the file can be read, so that choosing the columns helps.
    """
    if summary is not None:
        return column_mapping.reading(sources, summary.mapping.reason)
    if not problems:
        return EMPTY
    if not has_rows:
        return plan_panel.problem_list(problems)
    reason = "This is the file as it is. Choose above each column what it holds."
    shown = [replace(problem, remedy="") for problem in problems]
    return join([plan_panel.problem_list(shown), column_mapping.reading(sources, reason)])


def source_list(sources: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the sources with a button to remove each; nothing for a single one."""
    if len(sources) < 2:
        return EMPTY
    return render("data", "sources", [fmt.file_name(source.get("path", "")) for source in sources])


def row_count_text(summary: DatasetSummary) -> str:
    """Return how many rows are shown, and how long they are."""
    first = fmt.plural(min(MAX_ROWS, len(summary.examples)), "row")
    if not summary.sha256:
        return f"The first {first}. The rest is being read."
    unit = "character" if summary.mean_chars == 1 else "characters"
    return (
        f"The first {first} of {summary.rows:,}; {fmt.number(summary.mean_chars)} {unit} "
        f"per row on average, at most {fmt.number(summary.longest_chars)}."
    )


def row_table(examples: Sequence[Mapping[str, Any]]) -> Markup:
    """Return canonical rows as a table, with long texts truncated."""
    titles = column_titles(examples[0] if examples else {})
    shown = [[truncated(cell) for cell in cells(row)] for row in examples[:MAX_ROWS]]
    return render("data", "rows", titles, shown)


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
