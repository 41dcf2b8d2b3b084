"""Findings of the data checks: what is wrong, how often, where, and a button to repair it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ui.html import components
from ui.html import format as fmt
from ui.html.markup import EMPTY, Markup, el, join
from ui.html.templates import render

# Findings about the columns of a file rather than single rows.
COLUMN_CODES = frozenset(
    {
        "unused-columns",
        "media-columns",
        "unknown-columns",
        "one-column",
        "wrong-delimiter",
        "no-header",
    }
)
TONES = {"blocker": "bad", "caution": "warn", "note": "plain"}
# The end of a sentence that lists lines or rows.
_PLACES = re.compile(r": ((?:line|row)s? \d[^:]*)\.\Z")
DataFinding = Mapping[str, Any]


def part(files: Sequence[DataFinding]) -> Markup:
    """Return the findings of all files, a button that repairs all of them, and statistics."""
    found = findings(files)
    statistics = [_statistics(file) for file in files]
    if not found:
        return join([el("p.help", "No problems were found in these rows."), statistics])
    # Notes may be intended, so they are repaired only one by one.
    repairable = [each for each in found if each.get("repair") and each["level"] != "note"]
    repair_all = render("data", "repair_all") if len(repairable) > 1 else None
    return join([finding_list(found, has_several=len(files) > 1), repair_all, statistics])


def brief(files: Sequence[DataFinding], limit: int = 2) -> Markup:
    """Return the first findings that can be repaired, for the place below the tokens."""
    found = [each for each in findings(files) if each.get("repair")][:limit]
    return finding_list(found, has_several=len(files) > 1, key="brief") if found else EMPTY


def count_chip(files: Sequence[DataFinding]) -> Markup:
    """Return the number of findings for the title of the tab; notes are not counted."""
    levels = [each["level"] for each in findings(files) if each["level"] != "note"]
    if not levels:
        return EMPTY
    return error_count(len(levels), "bad" if "blocker" in levels else "warn")


def error_count(count: int, tone: str = "bad") -> Markup:
    """Return a number of findings."""
    return el(f"span.chip.{tone}", str(count), el("span.gone", " findings"))


def findings(files: Sequence[DataFinding]) -> list[DataFinding]:
    """Return the findings of all files, the most severe first."""
    order = list(TONES)
    listed = [finding for file in files for finding in file["findings"]]
    return sorted(listed, key=lambda finding: order.index(finding["level"]))


def split_places(finding: DataFinding) -> tuple[str, str]:
    """Return the sentence of a finding, and its places: lines 40, 41, 77 and 9 more."""
    what = str(finding["what"])
    match = _PLACES.search(what)
    return (what, "") if match is None else (f"{what[: match.start()]}.", match[1])


def repair_label(repair: str, count: int) -> str:
    """Return the label of the button that repairs a finding."""
    if repair.startswith(("Leave ", "Remove ", "Drop ")):
        return "Remove it" if count == 1 else "Remove them"
    return "Repair in a copy"


def repair_effect(finding: DataFinding) -> str:
    """Return how many rows the repair was found to fix and to remove; "" if it was not tried."""
    fixes, removes = finding.get("fixes"), finding.get("removes")
    if fixes is None or removes is None:
        return ""
    tried = finding.get("tried")
    rows = f" of the {tried:,} rows it was tried on" if tried else ""
    return f" The repair fixes {fixes:,} and removes {removes:,}{rows}."


def finding_list(listed: Sequence[DataFinding], *, has_several: bool, key: str = "all") -> Markup:
    """Return findings with their count, places and button."""
    return el(
        "div.finds.doc", [_finding(each, has_several=has_several, key=key) for each in listed]
    )


def _finding(finding: DataFinding, *, has_several: bool, key: str) -> Markup:
    count = int(finding.get("count") or 0)
    label = fmt.plural(count, "row") if count else finding["level"]
    if finding["code"] in COLUMN_CODES:
        label = "columns"
    what, places = split_places(finding)
    file = str(finding.get("file", "")) if has_several else ""
    where = " · ".join(filter(None, [file, places]))
    button = None
    if repair := finding.get("repair"):
        effect = repair_effect(finding)
        title = repair_label(repair, count)
        button = render("data", "repair_button", title, f"{repair}{effect}", key, finding)
        where = " · ".join(filter(None, [where, effect.strip()]))
    elif finding["code"] == "unused-columns":
        button = render("data", "mapping_button", key)
    tone = TONES[finding["level"]]
    return components.finding(label, tone, what, where, finding.get("remedy"), button=button)


def _statistics(file: DataFinding) -> Markup:
    stats = file.get("stats") or {}
    if not stats.get("rows"):
        return EMPTY
    scripts = list((stats.get("scripts") or {}).items())[:4]
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in scripts)
    items = [
        ("Rows", f"{fmt.number(stats['rows'])} usable, {stats.get('skipped', 0):,} skipped"),
        ("Answer length", f"{fmt.number(stats.get('mean_answer_chars'))} characters on average"),
        *([("Scripts of the answers", shares)] if shares else []),
    ]
    return components.facts(items, "after")
