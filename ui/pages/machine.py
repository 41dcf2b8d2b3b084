"""The Machine page: hardware, system checks, disk usage, optional packages and folders."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from modelforge.errors import BusyError, Problem
from modelforge.forge import Forge
from modelforge.hardware.doctor import check_machine
from modelforge.hardware.machine import Machine
from modelforge.hardware.nvidia import Gpu
from modelforge.runs.trash import DeletedRun
from modelforge.services.storage import StorageUsage
from modelforge.services.stored import StoredItem
from modelforge.setup.system_checks import CheckResult
from ui.contract import Reply
from ui.html import format as fmt
from ui.html.components import chip, facts, machine_brief
from ui.html.gradio_page import ServerFunction, gradio_page, text, texts
from ui.html.markup import Markup, el, join
from ui.html.templates import render
from ui.pages import extras

STATES = {"good": ("ok", "good"), "note": ("note", "warn"), "bad": ("error", "bad")}


# Kind of stored files → its title and color.
KINDS = {
    "runs": ("Runs", "c1"),
    "models": ("Models", "c2"),
    "data": ("Data", "c3"),
    "exports": ("Exports", "c4"),
    "evaluations": ("Evaluations", "c4"),
    "caches": ("Caches", "c5"),
    "logs": ("Logs", "c5"),
    "deleted": ("Recently deleted runs", "c5"),
    "other": ("Other files", "c5"),
}
PARTS = {
    "output": "results",
    "checkpoints": "checkpoints",
    "reward_model": "reward models",
    "start_model": "start models",
    "data": "data",
    "logs": "logs",
    "record": "records",
    "leftovers": "leftovers",
}
FREEABLE = {
    "checkpoints": "Checkpoints of finished runs",
    "leftovers": "Leftovers",
    "caches": "Caches",
    "deleted": "Recently deleted",
}
MAX_RUNS = 6
MAX_NAMED = 3


def page(forge: Forge) -> None:
    """Add the page to the current Blocks."""

    def open(_request: Any) -> Reply:
        machine = forge.machine.current(refresh=True)
        prefill = forge.layers.prefill()
        return Reply(
            parts={
                "computer": facts(_computer(machine)),
                "gpus": _gpus(machine),
                "profile": join([chip(prefill.title.lower()), " ", prefill.reason]),
                "unsloth": extras.unsloth_state(machine),
                **storage_parts(forge.storage.usage()),
                **stored_parts(forge.stored.items(), forge.trash.runs()),
                "folders": facts(_folders(forge, machine)),
                "machine-brief": machine_brief(machine),
            },
        )

    # A check imports the training stack in a process of its own.
    one_check = threading.Lock()

    def check_system(_request: Any) -> Reply:
        if not one_check.acquire(blocking=False):
            problem = Problem("check", "The computer is being checked already.", "Wait for it.")
            raise BusyError(problem, "")
        try:
            return Reply(parts={"system-checks": system_checks(check_machine(forge.home))})
        finally:
            one_check.release()

    gradio_page(render("machine", "body"), "machine", open, check_system, *_changes(forge))


def _changes(forge: Forge) -> tuple[ServerFunction, ...]:
    """Return the functions that free disk space, delete files and restore runs."""

    def free_space(request: Any) -> Reply:
        freed = forge.storage.free(text(request, "kind"), text(request, "run") or None)
        return Reply(toast=freed_text(freed))

    def delete_stored(request: Any) -> Reply:
        freed = 0
        for kind in ("data", "model"):
            if names := texts(request, kind):
                freed += forge.stored.delete(kind, names)
        return Reply(toast=freed_text(freed))

    def restore(request: Any) -> Reply:
        forge.trash.restore([text(request, "run")])
        return Reply(toast="Restored. The run is on the Runs page again.")

    return free_space, delete_stored, restore


def system_checks(rows: Sequence[CheckResult]) -> Markup:
    """Return the results of the checks, each with its remedy."""
    return render("machine", "checks", rows, STATES)


def storage_parts(storage: StorageUsage) -> dict[str, Markup]:
    """Return the parts of the storage card."""
    summary = f"{fmt.size(storage.bytes)} in use · {fmt.size(storage.disk_free)} free"
    freeable = []
    for item in storage.freeable:
        runs = f" ({fmt.plural(item.runs, 'run')})" if item.runs else ""
        freeable.append((item, f"{FREEABLE[item.kind]}{runs}"))
    content = render(
        "machine", "storage", storage, KINDS, freeable, storage.runs[:MAX_RUNS], _part_sizes
    )
    return {"storage-sum": join([summary]), "storage": content}


def stored_parts(items: Sequence[StoredItem], deleted: Sequence[DeletedRun]) -> dict[str, Markup]:
    """Return the parts of the card with data files, models and deleted runs."""
    kinds = {"data": "Data files", "model": "Models from the Hub"}
    grouped = [
        (title, [item for item in items if item.kind == kind]) for kind, title in kinds.items()
    ]
    total = f"{fmt.size(sum(item.bytes for item in items))}" if items else ""
    return {
        "stored-sum": join([total]),
        "stored": render("machine", "stored", grouped, deleted, used_by),
    }


def used_by(item: StoredItem) -> str:
    """Return which runs use a stored item; empty for none."""
    names = [f"“{run.name}”" for run in item.runs[:MAX_NAMED]]
    if not names:
        return ""
    more = item.uses - len(names)
    return f"used by {', '.join(names)}{f' and {more:,} more' if more else ''}"


def freed_text(count: int) -> str:
    """Return the message after space was freed."""
    return f"{fmt.size(count)} freed." if count else "There was nothing left to free."


def _computer(machine: Machine) -> list[tuple[str, str]]:
    return [
        ("System", f"{machine.system} · Python {machine.python}"),
        ("Processor", f"{machine.cpu or 'unknown'} · {fmt.cores(machine.cores)}"),
        ("Memory", f"{fmt.gib(machine.ram_free_gib)} free of {fmt.gib(machine.ram_total_gib)}"),
    ]


def _gpus(machine: Machine) -> Markup:
    if not machine.gpus:
        return el("p.help", machine.gpu_note or "No GPU was found.")
    return join([facts(_gpu(gpu)) for gpu in machine.gpus])


def _gpu(gpu: Gpu) -> list[tuple[str, str]]:
    capability = gpu.compute_capability
    return [
        (f"GPU {gpu.index}", gpu.name),
        ("Memory", f"{fmt.gib(gpu.free_gib)} free of {fmt.gib(gpu.total_gib)}"),
        ("Used by other programs", fmt.gib(gpu.other_gib)),
        ("Compute capability", ".".join(map(str, capability)) if capability else "unknown"),
        ("Driver", gpu.driver or "unknown"),
    ]


def _folders(forge: Forge, machine: Machine) -> list[tuple[str, str]]:
    return [
        ("Home", str(forge.home.root)),
        ("Runs", str(forge.home.runs)),
        ("Uploads", str(forge.home.uploads)),
        ("Logs", str(forge.home.logs)),
        ("Disk", f"{fmt.gib(machine.disk_free_gib)} free of {fmt.gib(machine.disk_total_gib)}"),
    ]


def _part_sizes(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{PARTS[part]} {fmt.size(count)}" for part, count in parts.items())
