"""Findings of the data checks: what is wrong, how often, where, and a button to repair it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.data.checks.findings import REPAIR_LINES
from modelforge.data.checks.rules import RULES
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
# Findings about how many rows there are.
AMOUNT_CODES = frozenset({"few-rows", "no-usable-row", "all-answers-truncated", "all-too-long"})
TONES = {"blocker": "bad", "caution": "warn", "note": "plain"}
# The end of a sentence that lists lines or rows.
_PLACES = re.compile(r": ((?:line|row)s? \d[^:]*)\.\Z")
DataFinding = Mapping[str, Any]
NO_ROLES: Mapping[str, Markup] = {}


def part(files: Sequence[DataFinding], roles: Mapping[str, Markup] = NO_ROLES) -> Markup:
    """Return the findings of all files, a button that repairs all of them, and statistics.

    `roles` are the buttons that give the unused columns of a file a role.
    """
    found = findings(files)
    statistics = [_statistics(file) for file in files]
    if not found:
        return join([el("p.help", "No problems were found in these rows."), statistics])
    # Notes may be intended, so they are repaired only one by one.
    repairable = [each for each in found if each.get("repair") and each["level"] != "note"]
    repair_all = render("data", "repair_all") if len(repairable) > 1 else None
    listed = finding_list(found, has_several=len(files) > 1, roles=roles)
    return join([listed, repair_all, statistics])


def brief(files: Sequence[DataFinding], limit: int = 2) -> Markup:
    """Return the first findings that can be repaired, for the place below the tokens."""
    found = [each for each in findings(files) if each.get("repair")][:limit]
    return finding_list(found, has_several=len(files) > 1, key="brief") if found else EMPTY


def count_chip(files: Sequence[DataFinding]) -> Markup:
    """Return the number of findings for the title of the tab, in the color of the most severe."""
    found = findings(files)
    return error_count(len(found), TONES[found[0]["level"]]) if found else EMPTY


def error_count(count: int, tone: str = "bad") -> Markup:
    """Return a number of findings."""
    return el(
        f"span.chip.{tone}", str(count), el("span.gone", " finding" if count == 1 else " findings")
    )


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


def finding_list(
    listed: Sequence[DataFinding],
    *,
    has_several: bool,
    key: str = "all",
    roles: Mapping[str, Markup] = NO_ROLES,
) -> Markup:
    """Return findings with their count, places and button."""
    found = [_finding(each, has_several=has_several, key=key, roles=roles) for each in listed]
    return el("div.finds.doc", found)


def _finding(
    finding: DataFinding, *, has_several: bool, key: str, roles: Mapping[str, Markup]
) -> Markup:
    count = int(finding.get("count") or 0)
    label = _label(finding)
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
        button = roles.get(str(finding.get("file"))) or render("data", "mapping_button", key)
    tone = TONES[finding["level"]]
    return components.finding(label, tone, what, where, finding.get("remedy"), button=button)


def _label(finding: DataFinding) -> str:
    """Return what a finding is about: rows, places in the file, columns, or the file."""
    code, count = finding["code"], int(finding.get("count") or 0)
    if code in COLUMN_CODES:
        return "columns"
    if count and (code in RULES or code in AMOUNT_CODES):
        return fmt.plural(count, "row")
    return fmt.plural(count, "line") if finding.get("repair") == REPAIR_LINES else "file"


def _statistics(file: DataFinding) -> Markup:
    stats = file.get("stats") or {}
    if not stats.get("rows"):
        return EMPTY
    scripts = list((stats.get("scripts") or {}).items())[:4]
    shares = ", ".join(
        f"{'no letters' if name == 'none' else name} {100 * share:.0f} %" for name, share in scripts
    )
    length = stats.get("mean_answer_chars")
    unit = "character" if length == 1 else "characters"
    items = [
        ("Rows", f"{fmt.number(stats['rows'])} usable, {stats.get('skipped', 0):,} skipped"),
        ("Answer length", f"{fmt.number(length)} {unit} on average"),
        *([("Scripts of the answers", shares)] if shares else []),
    ]
    return components.facts(items, "after")
