"""The side panel of the Export page: disk, size, time and memory, and where the result runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelforge.config.command_line import quote
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.hardware.machine import Machine
from modelforge.models.architecture import ModelInfo
from modelforge.models.resolve import model_stamp
from modelforge.paths import find_home
from modelforge.runs.exports import IN_GGUF, ExportRequest
from modelforge.runs.jobs import JobState
from modelforge.runs.view import RunView
from modelforge.services.exports import ExportView, Prediction
from modelforge.units import GIB, human_gib
from ui.html import format as fmt
from ui.html.markup import EMPTY, Markup, join
from ui.html.templates import render
from ui.pages.export.choice import Predicted, predict, token_note

CONTEXT = 4096
# Keys and values of a token are 16-bit numbers.
CACHE_BYTES = 2
# Share of the memory up to which a model fits, and up to which it is tight.
FITS, TIGHT = 0.75, 0.95
SMALL_GIB = 8.0
Capacity = tuple[str, float | None]


@dataclass(frozen=True)
class Chosen:
    """The choice of the page with its run, and what it needs."""

    request: ExportRequest
    run: RunView
    predicted: Predicted


def plan_parts(forge: Forge, chosen: Chosen, exports: Sequence[ExportView]) -> dict[str, str]:
    """Return the parts of the side panel, and of the bar in narrow windows."""
    machine = forge.machine.current()
    needs, reason = chosen.predicted.prediction, chosen.predicted.reason
    waits = "" if reason else waits_text(forge, exports)
    return {
        "export-plan": plan(chosen, exports, machine) if needs else EMPTY,
        "export-command": join([export_command(forge, chosen.request)]),
        "export-raw": render("export", "raw", chosen.run.id),
        "export-token": token_note(chosen.request),
        "export-why": join([reason or waits]),
        "export-dock": join([_dock_text(needs)]),
        "export-runs-on": runs_on(forge, chosen, machine) if needs else EMPTY,
    }


def plan(chosen: Chosen, exports: Sequence[ExportView], machine: Machine) -> Markup:
    """Return disk space, size, time, memory and the name of the file."""
    needs = chosen.predicted.prediction
    if needs is None:
        return EMPTY
    busy = next((view for view in exports if view.state is JobState.RUNNING), None)
    running = busy.prediction.disk_bytes if busy else 0
    total = (machine.disk_total_gib or 0.0) * GIB
    bar = [
        ("c5", "in use", max(0.0, total - needs.disk_free)),
        ("c1", "export now running", running),
        ("ember", "this export", needs.disk_bytes),
    ]
    whole = max(total, sum(size for _, _, size in bar)) or 1.0
    fits = needs.disk_bytes + running <= needs.disk_free
    rows = [
        ("Size", fmt.size(needs.bytes)),
        ("Time", fmt.estimated_duration(needs.seconds)),
        ("Memory", fmt.size(needs.memory_bytes)),
        ("Self-test", f"20 prompts, on the {'GPU' if needs.device == 'cuda' else 'processor'}"),
    ]
    shown = [part for part in bar if part[2]]
    return render(
        "export", "plan", shown, whole, needs, fits, rows, needs.name, has_disk=bool(total)
    )


def waits_text(forge: Forge, exports: Sequence[ExportView]) -> str:
    """Return what an export would wait for; empty if it starts at once."""
    unfinished = [view for view in exports if not view.state.is_over]
    if unfinished:
        left = sum(
            view.prediction.seconds if view.seconds_left is None else view.seconds_left
            for view in unfinished
        )
        what = "export in progress has" if len(unfinished) == 1 else "exports before it have"
        return f"It starts when the {what} ended, in {fmt.estimated_duration(left)}."
    if forge.runs.active():
        return "It starts when the run in progress has ended."
    return ""


def export_command(forge: Forge, request: ExportRequest) -> str:
    """Return the command that makes this export in a terminal."""
    words = ["modelforge", "export", request.run]
    if forge.home.root != find_home().root:
        words += ["--home", str(forge.home.root)]
    words += ["--format", request.format]
    if request.format == "hub":
        words += ["--content", request.content, "--repository", request.repository]
        words += [] if request.private else ["--public"]
    if request.written in IN_GGUF:
        words += ["--quantization", request.quantization]
    if request.precision != "base":
        words += ["--precision", request.precision]
    for run, weight in request.adapters:
        words += ["--adapter", f"{run}={weight:g}"]
    if request.adapters:
        words += ["--weight", f"{request.weight:g}", "--combination", request.combination]
        words += ["--density", f"{request.density:g}"]
    return quote(words)


def _dock_text(needs: Prediction | None) -> str:
    if needs is None:
        return ""
    return f"{fmt.size(needs.bytes)} · {fmt.estimated_duration(needs.seconds)}"


def runs_on(forge: Forge, chosen: Chosen, machine: Machine) -> Markup:
    """Return where the result fits: its file and the cache of a context, against the memory."""
    needed = needed_bytes(forge, chosen)
    if needed is None:
        return EMPTY
    places = [(name, *_fit(needed, gib)) for name, gib in _capacities(machine) if gib is not None]
    text = f"With {CONTEXT:,} tokens of context it needs {human_gib(needed / GIB)}: file and cache."
    return render("export", "runs_on", places, text)


def needed_bytes(forge: Forge, chosen: Chosen) -> int | None:
    """Return the bytes of the weights and of the cache; None if the base model is not here."""
    request, run = chosen.request, chosen.run
    needs, model = chosen.predicted.prediction, _model(forge, run)
    if needs is None or model is None:
        return None
    size = needs.bytes
    if request.written == "adapter":
        # It runs on its base model, whose size is that of a merged one.
        merged = predict(forge, ExportRequest(request.run, "merged")).prediction
        size += merged.bytes if merged else round(model.weights_gib * GIB)
    cache = cache_bytes(model)
    return None if cache is None else size + cache


def cache_bytes(model: ModelInfo) -> int | None:
    """Return the size of keys and values for a context; None if the architecture is unknown."""
    layers, heads, width = model.layers, model.kv_heads, model.head_dim
    if not layers or not heads or not width:
        return None
    tokens = min(CONTEXT, model.context or CONTEXT)
    return 2 * layers * heads * width * CACHE_BYTES * tokens


def _model(forge: Forge, run: RunView) -> ModelInfo | None:
    """Return the base model if it is on this computer; nothing is asked from the Hub."""
    name = str(run.config.get("model_name", ""))
    if not model_stamp(name, forge.home):
        return None
    try:
        return forge.preflight.model(name)
    except ForgeError:
        return None


def _capacities(machine: Machine) -> list[Capacity]:
    gpus: list[Capacity] = [
        (f"{gpu.name}, {gpu.total_gib:.0f} GiB" if gpu.total_gib else gpu.name, gpu.total_gib)
        for gpu in machine.gpus
    ]
    ram = machine.ram_total_gib
    own: Capacity = (f"This computer, {ram:.0f} GiB RAM" if ram else "", ram)
    return [
        *gpus,
        own,
        (f"{SMALL_GIB:.0f} GiB GPU", SMALL_GIB),
        (f"Laptop, {SMALL_GIB:.0f} GiB RAM", SMALL_GIB),
    ]


def _fit(needed: int, gib: float | None) -> tuple[str, str]:
    share = needed / ((gib or 0.0) * GIB or 1.0)
    if share <= FITS:
        return "fits", "good"
    return ("tight", "warn") if share <= TIGHT else ("too small", "bad")
