"""The disk usage card of the Machine page."""

from __future__ import annotations

from collections.abc import Mapping

from modelforge.services.storage import StorageUsage
from ui.html import format as fmt
from ui.html.markup import Markup, join
from ui.html.templates import render

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
MAX_RUNS = 6


def parts(storage: StorageUsage) -> dict[str, Markup]:
    """Return the parts of the card."""
    summary = f"{fmt.size(storage.bytes)} in use · {fmt.size(storage.disk_free)} free"
    freeable = []
    for item in storage.freeable:
        runs = f" ({fmt.plural(item.runs, 'run')})" if item.runs else ""
        freeable.append((item, f"{FREEABLE[item.kind]}{runs}"))
    content = render(
        "machine", "storage", storage, KINDS, freeable, storage.runs[:MAX_RUNS], _part_sizes
    )
    return {"storage-sum": join([summary]), "storage": content}


def freed_text(count: int) -> str:
    """Return the message after space was freed."""
    return f"{fmt.size(count)} freed." if count else "There was nothing left to free."


def _part_sizes(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{PARTS[part]} {fmt.size(count)}" for part, count in parts.items())
