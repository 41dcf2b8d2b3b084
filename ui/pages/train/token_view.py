"""Rows as the model sees them: every token with its role and id, and the lengths of all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ui.html import charts, components
from ui.html import format as fmt
from ui.html.markup import Markup, el, join
from ui.html.templates import render

# Role → class of the style sheet, text for screen readers, and meaning of the color.
ROLES = {
    "masked": ("m", "masked", "Grey is read but not trained"),
    "trained": ("t", "trained", "green is trained"),
    "end": ("e", "trained, ends the answer", "orange ends the answer"),
    "cut": ("c", "truncated", "struck through is truncated"),
    "pad": ("p", "padding", "faint is padding"),
}
TRAINED = ("trained", "end")
MAX_TOKENS = 1500
MAX_LISTED = 300
# Rows shown together to show padding and packing.
BATCH_ROWS = 4
_SYMBOLS = {"\n": "⏎", "\r": "␍", "\t": "⇥"}
Token = Mapping[str, Any]


def part(page: Mapping[str, Any], number: int, count: int, *, as_batch: bool = False) -> Markup:
    """Return row `number` of `count`, counted from 1, as the worker tokenized it."""
    rows = page.get("rows", ())
    notes = [el("p.fine", str(note.get("text", ""))) for note in page.get("notes", ())]
    # Packed rows have names; rows side by side have their numbers.
    shown = [
        _row(row, number + place if as_batch and not row.get("name") else number)
        for place, row in enumerate(rows)
    ]
    if not shown:
        shown = [el("p.help", "No token of this row is trained: it is empty or left out.",
                    role="status")]  # fmt: skip
    return join([pager(number, count, as_batch=as_batch), shown, notes])


def pager(number: int, count: int, *, as_batch: bool = False) -> Markup:
    """Return the row selector, and the switch to show rows as a batch."""
    return render("data", "pager", number, count, as_batch, BATCH_ROWS)


def summary(tokens: Sequence[Token], number: int) -> str:
    """Return the meaning of the colors, and how many tokens are trained."""
    counts = Counter(str(token.get("role")) for token in tokens)
    colors = ", ".join(color for role, (_, _, color) in ROLES.items() if counts[role])
    trained = sum(counts[role] for role in TRAINED)
    total = sum(counts.values()) - counts["pad"]
    verb = "is" if trained == 1 else "are"
    return (
        f"Row {number:,} as it is trained. {colors[:1].upper()}{colors[1:]}. "
        f"{trained:,} of {fmt.plural(total, 'token')} {verb} trained."
    )


def _row(row: Mapping[str, Any], number: int) -> Markup:
    tokens: Sequence[Token] = row["pieces"]
    name = row.get("name")
    if not tokens:
        return el("p.help", f"Row {number:,}. {name or 'No token of it is trained'}.")
    groups = groupby(tokens[:MAX_TOKENS], key=lambda token: str(token.get("role")))
    hidden, unlisted = len(tokens) - MAX_TOKENS, len(tokens) - MAX_LISTED
    listed = tokens[:MAX_LISTED]
    texts = name, summary(tokens, number)
    return render("data", "tokens", *texts, groups, hidden, listed, unlisted, ROLES, visible)


def visible(text: str) -> str:
    """Return the text of a token with symbols for line ends and tabs."""
    return "".join(_SYMBOLS.get(letter, letter) for letter in text) or "·"


def length_histogram(lengths: Mapping[str, Any]) -> Markup:
    """Return the histogram of tokens per row, and its statistics."""
    bins = [(int(end), int(count)) for end, count in lengths.get("histogram") or ()]
    limit, truncated = lengths.get("max_length"), lengths.get("truncated")
    statistics = [
        ("Measured rows", fmt.number(lengths.get("rows"))),
        ("Tokens per row", f"{fmt.number(lengths.get('mean'))} on average"),
        ("Longest row", f"{fmt.number(lengths.get('longest'))} tokens"),
        ("Truncated rows", _share(truncated)),
        ("Trained tokens", _share(lengths.get("trained"))),
    ]
    sentence = "No row is truncated."
    if truncated and limit:
        share = fmt.percent(100 * (1 - float(truncated)), 1)
        sentence = f"{share} of the rows fit whole into {fmt.number(limit)} tokens."
    return join(
        [
            el("p.help", sentence),
            charts.histogram("Tokens per row", bins, limit=int(limit) if limit else None),
            components.facts(statistics, "after"),
            [el("p.fine", str(note.get("text", ""))) for note in lengths.get("notes", ())],
        ]
    )


def _share(share: float | None) -> str:
    return fmt.percent(None if share is None else 100 * share, 1)
