"""The disk usage card of the Machine page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelforge.services.storage import Freeable, StorageItem, StorageUsage
from ui.html import format as fmt
from ui.html.markup import EMPTY, Markup, el, join

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
FREEABLE = {
    "checkpoints": "Checkpoints of finished runs",
    "leftovers": "Leftovers",
    "caches": "Caches",
}
LOSES_CHECKPOINTS = "The result, log and metrics are kept. The run can no longer be resumed."
MAX_RUNS = 6


def storage_card() -> Markup:
    """Return the card, empty of sizes."""
    return el(
        "section.card#storage",
        el("div.head", el("h2.name", "Storage"), el("div.sum", data_part="storage-sum")),
        el("div.body", data_part="storage", aria_live="polite"),
    )


def parts(storage: StorageUsage) -> dict[str, Markup]:
    """Return the parts of the card."""
    summary = f"{fmt.size(storage.bytes)} in use · {fmt.size(storage.disk_free)} free"
    content = [_bar(storage), _kinds(storage), _freeable(storage), _largest_runs(storage)]
    return {"storage-sum": join([summary]), "storage": join(content)}


def freed_text(count: int) -> str:
    """Return the message after space was freed."""
    return f"{fmt.size(count)} freed." if count else "There was nothing left to free."


def _bar(storage: StorageUsage) -> Markup:
    total = storage.bytes or 1
    shares = [
        el(f"i.{KINDS[kind.kind][1]}", style=f"width:{100 * kind.bytes / total:.2f}%")
        for kind in storage.kinds
    ]
    return el("div.bar", shares, aria_hidden="true")


def _kinds(storage: StorageUsage) -> Markup:
    return el("div.held", [_kind(kind) for kind in storage.kinds if kind.bytes])


def _kind(kind: StorageItem) -> Markup:
    title, tone = KINDS[kind.kind]
    details = el("small.sub", _parts(kind.parts)) if kind.parts else None
    name = el("span", el(f"i.dot.{tone}"), title, details)
    return el("div.row", name, el("span.num", fmt.size(kind.bytes)))


def _parts(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{PARTS[part]} {fmt.size(count)}" for part, count in parts.items())


def _freeable(storage: StorageUsage) -> Markup:
    if not storage.freeable:
        return el("p.help.under", "Nothing can be deleted without losing a result.")
    return el("div.finds.under", [_freeable_item(item) for item in storage.freeable])


def _freeable_item(item: Freeable) -> Markup:
    runs = f" ({fmt.plural(item.runs, 'run')})" if item.runs else ""
    title = f"{FREEABLE[item.kind]}{runs}"
    return el(
        "div.find",
        el("div", el("b", title), el("small", item.loses)),
        el("span.num", fmt.size(item.bytes)),
        _free_button(item.kind, title, item.loses, item.bytes),
    )


def _largest_runs(storage: StorageUsage) -> Markup:
    if not storage.runs:
        return EMPTY
    runs = el("div.held", [_run(run) for run in storage.runs[:MAX_RUNS]])
    return join([el("h3.quiet.under", "Largest runs"), runs])


def _run(run: Mapping[str, Any]) -> Markup:
    button = el("span")
    if run["may_shed"]:
        title = f"Checkpoints of “{run['name']}”"
        count = run["parts"].get("checkpoints", 0)
        button = _free_button("checkpoints", title, LOSES_CHECKPOINTS, count, run["id"])
    link = el("a", run["name"], href=f"/?run={run['id']}")
    return el(
        "div.row",
        el("span", link, el("small.sub", _parts(run["parts"]))),
        el("span.num", fmt.size(run["bytes"])),
        button,
    )


def _free_button(kind: str, title: str, effect: str, count: int, run: str = "") -> Markup:
    return el(
        "button.btn.s",
        "Free",
        type="button",
        data_action="free-space",
        data_kind=kind,
        data_run=run,
        data_title=title,
        data_effect=effect,
        data_size=fmt.size(count),
        id=f"free-{kind}-{run}",
        aria_label=f"Free: {title}",
    )
