"""What the home takes on the disk, as a card: bars, the biggest runs, and what can go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelforge.services.storage import Freeable, Storage
from ui.html import format as words
from ui.html.markup import Safe, el, join

KINDS = {
    "runs": ("Runs", "c1"),
    "models": ("Models", "c2"),
    "data": ("Data", "c3"),
    "caches": ("Caches", "c4"),
    "logs": ("Logs", "c5"),
    "other": ("Other files", "c5"),
}
PARTS = {
    "output": "results",
    "checkpoints": "checkpoints",
    "reward_model": "reward models",
    "logs": "logs",
    "record": "records",
    "leftovers": "leftovers",
}
FREED = {
    "checkpoints": "Checkpoints of finished runs",
    "leftovers": "Leftovers",
    "caches": "Caches",
}
SHOWN_RUNS = 6


def card() -> Safe:
    """Return the card, empty of sizes."""
    return el(
        "section.card#storage",
        el("div.head", el("h2.name", "Storage"), el("div.sum", data_part="storage-sum")),
        el("div.body", data_part="storage", aria_live="polite"),
    )


def parts(found: Storage) -> dict[str, Safe]:
    """Return the parts of the card."""
    summary = f"{words.size(found.bytes)} in use · {words.size(found.disk_free)} free"
    return {
        "storage-sum": join([summary]),
        "storage": join([_bar(found), _kinds(found), _freeable(found), _biggest(found)]),
    }


def freed(held: int) -> str:
    """Return what is said once something has gone."""
    return f"{words.size(held)} are free now." if held else "There was nothing left to free."


def _bar(found: Storage) -> Safe:
    whole = found.bytes or 1
    return el(
        "div.bar",
        [
            el(f"i.{KINDS[kind.kind][1]}", style=f"width:{100 * kind.bytes / whole:.2f}%")
            for kind in found.kinds
        ],
        aria_hidden="true",
    )


def _kinds(found: Storage) -> Safe:
    return el(
        "div.held",
        [
            el(
                "div.row",
                el("span", el(f"i.dot.{KINDS[kind.kind][1]}"), KINDS[kind.kind][0],
                   el("small.sub", _parts(kind.parts)) if kind.parts else None),
                el("span.num", words.size(kind.bytes)),
            )
            for kind in found.kinds
            if kind.bytes
        ],
    )  # fmt: skip


def _parts(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{PARTS[part]} {words.size(held)}" for part, held in parts.items())


def _freeable(found: Storage) -> Safe:
    if not found.freeable:
        return el("p.help.under", "There is nothing that could go without losing a result.")
    return el("div.finds.under", [_can_go(one) for one in found.freeable])


def _can_go(one: Freeable) -> Safe:
    runs = f" ({words.plural(one.runs, 'run')})" if one.runs else ""
    title = f"{FREED[one.kind]}{runs}"
    return el(
        "div.find",
        el("div", el("b", title), el("small", one.loses)),
        el("span.num", words.size(one.bytes)),
        _button(one.kind, title, one.loses, one.bytes),
    )


def _biggest(found: Storage) -> Safe:
    if not found.runs:
        return Safe("")
    return join(
        [
            el("h3.quiet.under", "The biggest runs"),
            el("div.held", [_run(run) for run in found.runs[:SHOWN_RUNS]]),
        ]
    )


def _run(run: Mapping[str, Any]) -> Safe:
    loses = "Its result, log and numbers stay. It cannot go on from its last update any more."
    held = run["parts"].get("checkpoints", 0)
    free = (
        _button("checkpoints", f"The checkpoints of “{run['name']}”", loses, held, run["id"])
        if run["may_shed"]
        else None
    )
    return el(
        "div.row",
        el("span", el("a", run["name"], href=f"/?run={run['id']}"),
           el("small.sub", _parts(run["parts"]))),
        el("span.num", words.size(run["bytes"])),
        free or el("span"),
    )  # fmt: skip


def _button(kind: str, title: str, loses: str, held: int, run: str = "") -> Safe:
    return el(
        "button.btn.s",
        "Free",
        type="button",
        data_do="free",
        data_kind=kind,
        data_run=run,
        data_title=title,
        data_loses=loses,
        data_size=words.size(held),
        id=f"free-{kind}-{run}",
        aria_label=f"Free: {title}",
    )
