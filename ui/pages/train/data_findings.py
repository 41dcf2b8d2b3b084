"""The doctor of the data: what is odd, how often, where, and the button that mends it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ui.html import format as words
from ui.html.markup import Safe, el, join

# What is odd about a file and not about one of its rows.
OF_COLUMNS = frozenset({"unknown-columns", "one-column", "wrong-delimiter", "no-header"})
TONES = {"blocker": "bad", "caution": "warn", "note": "plain"}
# Where a sentence of the doctor ends in the places it names.
_WHERE = re.compile(r": ((?:line|row)s? \d[^:]*)\.\Z")
Told = Mapping[str, Any]


def part(files: Sequence[Told]) -> Safe:
    """Return every finding of every file, then a button for all of them, then the numbers."""
    listed = findings(files)
    if not listed:
        return join([el("p.help", "Nothing odd in these rows."), [_numbers(one) for one in files]])
    # What may be meant is mended only where it is asked for by itself.
    mending = [one for one in listed if one.get("repair") and one["level"] != "note"]
    return join(
        [
            finds(listed, several=len(files) > 1),
            _everything() if len(mending) > 1 else None,
            [_numbers(one) for one in files],
        ]
    )


def brief(files: Sequence[Told], most: int = 2) -> Safe:
    """Return the findings that stand under the tokens: the first that can be mended."""
    listed = [one for one in findings(files) if one.get("repair")][:most]
    return finds(listed, several=len(files) > 1, key="brief") if listed else Safe("")


def chip(files: Sequence[Told]) -> Safe:
    """Return the count in the tab: how many things are odd."""
    listed = [one for one in findings(files) if one["level"] != "note"]
    if not listed:
        return Safe("")
    bad = any(one["level"] == "blocker" for one in listed)
    tone = "bad" if bad else "warn"
    return el(f"span.chip.{tone}", str(len(listed)), el("span.gone", " findings"))


def findings(files: Sequence[Told]) -> list[Told]:
    """Return the findings of all files, the gravest first."""
    order = list(TONES)
    every = [one for file in files for one in file["findings"]]
    return sorted(every, key=lambda one: order.index(one["level"]))


def parted(finding: Told) -> tuple[str, str]:
    """Return the sentence of a finding, and where it is: lines 40, 41, 77 and 9 more."""
    what = str(finding["what"])
    found = _WHERE.search(what)
    if found is None:
        return what, ""
    return f"{what[: found.start()]}.", found[1]


def button(repair: str, count: int) -> str:
    """Return what the button that mends is called, in a few words."""
    them = "it" if count == 1 else "them"
    return f"Leave {them} out" if repair.startswith("Leave ") else f"Mend {them} in a copy"


def finds(listed: Sequence[Told], *, several: bool, key: str = "all") -> Safe:
    """Return findings as lines: how many rows, the sentence, where, and a button."""
    return el("div.finds.doc", [_finding(one, several=several, key=key) for one in listed])


def _finding(one: Told, *, several: bool, key: str) -> Safe:
    count = int(one.get("count") or 0)
    told = words.plural(count, "row") if count else one["level"]
    if one["code"] in OF_COLUMNS:
        told = "columns"
    what, places = parted(one)
    where = " · ".join(filter(None, [str(one.get("file", "")) if several else "", places]))
    return el(
        "div.find",
        el(f"span.chip.{TONES[one['level']]}", told),
        el(
            "div",
            what,
            el("small", where) if where else None,
            el("small", one["remedy"]) if one.get("remedy") else None,
        ),
        _mend(one, key) if one.get("repair") else None,
    )


def _mend(one: Told, key: str) -> Safe:
    told, label = str(one["repair"]), button(str(one["repair"]), int(one.get("count") or 0))
    return el(
        "button.btn.s",
        label,
        type="button",
        data_do="repair",
        data_code=one["code"],
        id=f"mend-{key}-{one['code']}",
        title=f"{told} In a copy; the original stays.",
        aria_label=f"{label}: {one['what']}",
    )


def _everything() -> Safe:
    return el(
        "div.row.start",
        el(
            "button.btn",
            "Mend all in a copy",
            type="button",
            data_do="repair",
            id="mend-everything",
        ),
        el("p.fine", "The original stays as it is."),
    )


def _numbers(file: Told) -> Safe:
    stats = file.get("stats") or {}
    scripts = list((stats.get("scripts") or {}).items())[:4]
    facts = [
        ("Rows", f"{words.number(stats.get('rows'))} usable, {stats.get('skipped', 0):,} skipped"),
        ("An answer", f"{words.number(stats.get('mean_answer_chars'))} characters on average"),
        ("Answers in", ", ".join(f"{name} {100 * share:.0f} %" for name, share in scripts)),
    ]
    shown = [el("div", el("dt", key), el("dd", told)) for key, told in facts if told]
    return el("dl.facts.after", shown) if stats.get("rows") else Safe("")
