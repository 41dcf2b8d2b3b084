"""A row as the model sees it: every token in the colour of its role, with its id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from ui.html import charts
from ui.html import format as words
from ui.html.markup import Safe, el, join

TONES = {"masked": "m", "trained": "t", "end": "e", "cut": "c", "pad": "p"}
# What a group of tokens is called by those who do not see its colour.
ALOUD = {
    "masked": "read",
    "trained": "learned",
    "end": "learned, ends the answer",
    "cut": "cut off",
    "pad": "padding",
}
COLOURS = {
    "masked": "Grey is read but not learned",
    "trained": "green is learned",
    "end": "orange ends the answer",
    "cut": "struck through is cut off",
    "pad": "faint is padding",
}
LEARNED = ("trained", "end")
MOST = 1500
LISTED = 300
_SIGNS = {"\n": "⏎", "\r": "␍", "\t": "⇥"}
# So many rows are laid out together, to show how they are padded or packed.
TOGETHER = 4
Piece = Mapping[str, Any]


def part(page: Mapping[str, Any], number: int, rows: int, *, together: bool = False) -> Safe:
    """Return row `number` of `rows`, counted from 1, as the worker's code tokenized it."""
    shown = page.get("rows", ())
    notes = [el("p.fine", str(note.get("text", ""))) for note in page.get("notes", ())]
    if not shown:
        told = "Nothing of this row is left to train on: it is left out, or empty."
        shown_rows = [el("p.help", told, role="status")]
    else:
        # Packed rows have names of their own; rows beside each other have their numbers.
        shown_rows = [
            _row(row, number + place if together and not row.get("name") else number)
            for place, row in enumerate(shown)
        ]
    return join([pager(number, rows, together=together), shown_rows, notes])


def pager(number: int, rows: int, *, together: bool = False) -> Safe:
    """Return the chooser of the row: back, a number, on, and whether its neighbours show too."""
    return el(
        "div.pager",
        _step("Previous", number - 1, off=number <= 1),
        el("label", "Row", for_="row-number"),
        el(
            "input#row-number",
            type="number",
            min="1",
            max=str(max(1, rows)),
            value=str(number),
            inputmode="numeric",
        ),
        el("span.sub", f"of {words.number(rows)}"),
        _step("Next", number + 1, off=number >= rows),
        el(
            "label.tick.aside",
            el("input#row-together", type="checkbox", checked=together),
            f"As a batch of {TOGETHER}",
        ),
    )


def sentence(pieces: Sequence[Piece], number: int) -> str:
    """Return what the colours mean here, and how much is learned."""
    counts = Counter(str(piece.get("role")) for piece in pieces)
    shown = [COLOURS[role] for role in COLOURS if counts[role]]
    colours = ", ".join(shown)
    learned = sum(counts[role] for role in LEARNED)
    total = sum(counts.values()) - counts["pad"]
    verb = "is" if learned == 1 else "are"
    return (
        f"Row {number:,} as it will be trained. {colours[:1].upper()}{colours[1:]}. "
        f"{learned:,} of {words.plural(total, 'token')} {verb} learned."
    )


def _row(row: Mapping[str, Any], number: int) -> Safe:
    pieces: Sequence[Piece] = row["pieces"]
    name = row.get("name")
    if not pieces:
        return el("p.help", f"Row {number:,}. {name or 'Nothing of it is left to train on'}.")
    left = len(pieces) - MOST
    return join(
        [
            el("h3.sub", str(name)) if name else None,
            el("p.help", sentence(pieces, number)),
            el(
                "div.tok",
                [_group(role, group) for role, group in _groups(pieces[:MOST])],
                el("span.sub", f" and {left:,} more") if left > 0 else None,
                role="region",
                tabindex="0",
                aria_label="Tokens",
            ),
            _listed(pieces),
        ]
    )


def _groups(pieces: Iterable[Piece]) -> list[tuple[str, list[Piece]]]:
    grouped = groupby(pieces, key=lambda piece: str(piece.get("role")))
    return [(role, list(group)) for role, group in grouped]


def _group(role: str, pieces: Sequence[Piece]) -> Safe:
    tone = TONES.get(role, "m")
    aloud = el("span.gone", f" {ALOUD.get(role, role)}: ")
    return join(
        [
            aloud,
            [
                el(f"span.{tone}", visible(str(one.get("text", ""))), title=f"id {one.get('id')}")
                for one in pieces
            ],
        ]
    )


def visible(text: str) -> str:
    """Return a token's text with line ends and tabs as signs, so that none is invisible."""
    return "".join(_SIGNS.get(letter, letter) for letter in text) or "·"


def _listed(pieces: Sequence[Piece]) -> Safe:
    rows = [
        el(
            "tr",
            el("td", f"{place:,}"),
            el("td", visible(str(one.get("text", "")))),
            el("td", str(one.get("id"))),
            el("td", ALOUD.get(str(one.get("role")), "")),
        )
        for place, one in enumerate(pieces[:LISTED], start=1)
    ]
    heads = [el("th", head, scope="col") for head in ("Place", "Token", "Id", "Role")]
    more = len(pieces) - LISTED
    return el(
        "details.more-rows",
        el("summary", "As a list, with ids"),
        el(
            "div.table",
            el("table.ids", el("thead", el("tr", heads)), el("tbody", rows)),
            tabindex="0",
            role="region",
            aria_label="Tokens and ids",
        ),
        el("p.fine", f"{more:,} more are not listed.") if more > 0 else None,
    )


def _step(name: str, target: int, *, off: bool) -> Safe:
    return el(
        "button.btn.s",
        name,
        type="button",
        data_do="token-row",
        data_row=str(target),
        id=f"row-{name.lower()}",
        aria_label=f"{name} row",
        aria_disabled="true" if off else None,
    )


def length_histogram(told: Mapping[str, Any]) -> Safe:
    """Return the histogram of tokens per row, and the shares beside it in words."""
    heights = [(int(end), int(count)) for end, count in told.get("histogram") or ()]
    rows = told.get("rows")
    limit = told.get("max_length")
    numbers = [
        ("Rows measured", words.number(rows)),
        ("Tokens a row", f"{words.number(told.get('mean'))} on average"),
        ("Longest row", f"{words.number(told.get('longest'))} tokens"),
        ("Rows cut", share(told.get("truncated"))),
        ("Tokens learned", share(told.get("trained"))),
    ]
    fit = told.get("truncated")
    sentence = "No row is cut."
    if fit and limit:
        whole = 100 * (1 - float(fit))
        sentence = f"{whole:.1f} % of rows fit whole into {words.number(limit)} tokens."
    return join(
        [
            el("p.help", sentence),
            charts.bars("Tokens a row", heights, limit=int(limit) if limit else None),
            el("dl.facts.after", [el("div", el("dt", key), el("dd", one)) for key, one in numbers]),
            [el("p.fine", str(note.get("text", ""))) for note in told.get("notes", ())],
        ]
    )


def share(part_of: float | None) -> str:
    """Return a share from 0 to 1 as people read it: 0.6 %."""
    return words.UNKNOWN if part_of is None else f"{100 * part_of:.1f} %"
