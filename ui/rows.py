"""The data as the card shows it: its first rows, how they are read, and what is odd about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.data.look import FirstLook
from modelforge.errors import Problem
from ui import cards, plan, words
from ui.markup import Safe, el, join

KINDS = {
    "pair": "questions and answers",
    "instruction": "instructions and answers",
    "messages": "conversations",
    "text": "plain text",
}
SHOWN = 20
LONGEST = 600


def summary(look: FirstLook | None) -> Safe:
    """Return the card's summary line."""
    if look is None:
        return join(["not chosen yet"])
    kind = KINDS.get(look.mapping.kind, look.mapping.kind)
    return join([f"{look.name} · {words.plural(look.rows, 'row')} · {kind}"])


def part(look: FirstLook | None, problems: Sequence[Problem]) -> Safe:
    """Return the rows and the findings of the chosen data, or what is wrong with it."""
    if look is None:
        return plan.problems([Problem(p.where, f"{p.where}: {p.what}", p.remedy) for p in problems])
    count = len(look.findings)
    chip = el("span.chip.warn", str(count)) if count else None
    odd = plan.findings(look.findings) if count else el("p.help", "Nothing odd in these rows.")
    return join(
        [
            cards.tabs("data", [("rows", "Rows"), ("finds", join(["Findings ", chip]))]),
            _panel("rows", join([el("p.help", told(look)), table(look.examples)])),
            _panel("finds", odd, hidden=True),
        ]
    )


def told(look: FirstLook) -> str:
    """Return how the rows are read and how long they are."""
    first = min(SHOWN, len(look.examples))
    return (
        f"{look.mapping.reason} The first {words.plural(first, 'row')} of {look.rows:,}; "
        f"{words.number(look.mean_chars)} characters each on average, "
        f"{words.number(look.longest_chars)} at most."
    )


def table(examples: Sequence[Mapping[str, Any]]) -> Safe:
    """Return canonical rows as a table; long texts are cut."""
    chats = any("messages" in row for row in examples)
    heads = ("Row", "Question", "Answer") if chats else ("Row", "Text")
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


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a row shows: question and answer, or its text."""
    turns = row.get("messages")
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        return (str(row.get("text", "")),)
    asked = [str(turn.get("content", "")) for turn in turns if turn.get("role") == "user"]
    answers = [str(turn.get("content", "")) for turn in turns if turn.get("role") == "assistant"]
    more = f"  (+ {words.plural(len(asked) - 1, 'more turn')})" if len(asked) > 1 else ""
    return (asked[0] + more if asked else "", answers[0] if answers else "")


def cut(text: str) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _panel(key: str, body: Safe, *, hidden: bool = False) -> Safe:
    return el(
        f"div#data-{key}", body, role="tabpanel", aria_labelledby=f"tab-data-{key}", hidden=hidden
    )
