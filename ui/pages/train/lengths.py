"""How long rows are in tokens: the histogram, what is cut, what is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ui.html import charts
from ui.html import format as words
from ui.html.markup import Safe, el, join


def part(told: Mapping[str, Any]) -> Safe:
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
