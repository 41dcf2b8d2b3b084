"""What preflight says of room: does it fit into memory, and onto the disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from modelforge.errors import Finding
from modelforge.preflight.case import Case
from modelforge.preflight.memory import part_gib, total_gib

SHORTEST = 128
SPARE_DISK_GIB = 2.0


@dataclass(frozen=True)
class Cheaper:
    """One setting that would lower the memory, and the total it would come to."""

    where: str
    value: object
    words: str
    gib: float


def memory_base(case: Case) -> Iterator[Finding]:
    """Refuse a model whose weights alone do not fit."""
    base = _base_gib(case)
    if not case.memory or not _base_is_too_big(case):
        return
    room, free = case.room_gib, case.available_gib
    if room is not None and base > room:
        cheaper = [way for way in _lighter(case) if way.gib <= room]
        remedy = cheaper[0].words if cheaper else "Choose a smaller model"
        yield Finding(
            "blocker",
            "memory-base",
            f"The model alone needs about {base:.1f} GiB; the {case.place} has {room:.1f} GiB.",
            f"{remedy}.",
            cheaper[0].where if cheaper else "model_name",
            cheaper[0].value if cheaper else None,
        )
        return
    yield Finding(
        "blocker",
        "memory-base",
        f"The model alone needs about {base:.1f} GiB; the GPU has {free or 0:.1f} GiB free.",
        f"Close the programs that hold {_held(case)} of the GPU, or choose a smaller model.",
        "model_name",
    )


def memory_short(case: Case) -> Iterator[Finding]:
    """Warn of a run that fits only just or not, and offer each cheaper setting with its total."""
    total, free = case.memory_total_gib, case.available_gib
    if total is None or free is None or total <= free or _base_is_too_big(case):
        return
    ways = cheaper_settings(case, free)
    cheapest = min(ways, key=lambda way: way.gib, default=None)
    best = next((way for way in ways if way.gib <= free), cheapest)
    code = "memory-short" if case.plan.device == "cuda" else "ram-short"
    yield Finding(
        "caution",
        code,
        f"The run needs about {total:.1f} GiB; the {case.place} has {free:.1f} GiB free.",
        _remedy(best, free),
        best.where if best else "model_name",
        best.value if best else None,
    )
    for way in ways:
        if way is not best:
            yield Finding(
                "note",
                "memory-option",
                f"It would come to about {way.gib:.1f} GiB another way.",
                f"{way.words}.",
                way.where,
                way.value,
            )


def memory_unknown(case: Case) -> Iterator[Finding]:
    """Tell when the model's shape gives no estimate."""
    if case.facts is not None and not case.memory:
        yield Finding(
            "note",
            "memory-unknown",
            f"The memory of {case.facts.name} cannot be estimated: its shape is not a known one.",
            "Start with a small batch size and watch the memory.",
            "model_name",
        )


def disk(case: Case) -> Iterator[Finding]:
    """Refuse a run that the disk cannot hold, and warn when little would be left."""
    needed, free = case.disk_gib, case.machine.disk_free_gib
    if needed is None or free is None or free >= needed + SPARE_DISK_GIB:
        return
    fetch = case.facts is not None and not case.facts.local
    includes = ", the download of the model included" if fetch else ""
    blocked = free < needed
    yield Finding(
        "blocker" if blocked else "caution",
        "disk-full" if blocked else "disk-short",
        f"The run writes about {needed:.1f} GiB{includes}; "
        f"the disk of {case.home.root} has {free:.1f} GiB free.",
        "Delete old runs or other files, or set MODELFORGE_HOME to a larger disk.",
    )


def cheaper_settings(case: Case, limit_gib: float) -> list[Cheaper]:
    """Return the single changes that lower the memory, the least painful first."""
    ways = [*_recompute(case), *_smaller_batch(case, limit_gib), *_shorter(case, limit_gib)]
    total = total_gib(case.memory) or 0.0
    return [way for way in [*ways, *_lighter(case)] if way.gib < total - 0.05]


def _base_gib(case: Case) -> float:
    return part_gib(case.memory, "weights", "overhead")


def _base_is_too_big(case: Case) -> bool:
    if case.rehearsal is not None:
        return False  # it has been loaded here, whatever was worked out
    base, room, free = _base_gib(case), case.room_gib, case.available_gib
    if room is not None and base > room:
        return True
    # The computer can swap and drop caches, a card cannot.
    return case.plan.device == "cuda" and free is not None and base > free


def _held(case: Case) -> str:
    held = case.gpu.other_gib if case.gpu else None
    if held is None and case.gpu and case.gpu.total_gib and case.gpu.free_gib is not None:
        held = case.gpu.total_gib - case.gpu.free_gib
    return f"{held:.1f} GiB" if held else "memory"


def _remedy(best: Cheaper | None, free: float) -> str:
    if best is None:
        return "Choose a smaller model."
    said = f"{best.words}: about {best.gib:.1f} GiB"
    return f"{said}." if best.gib <= free else f"{said}, still too much; choose a smaller model."


def _recompute(case: Case) -> Iterator[Cheaper]:
    if not case.config.gradient_checkpointing:
        gib = _with(case, gradient_checkpointing=True)
        words = "Switch gradient checkpointing on"
        yield Cheaper("gradient_checkpointing", True, words, gib)


def _smaller_batch(case: Case, limit_gib: float) -> Iterator[Cheaper]:
    batch = size = case.config.per_device_train_batch_size
    if batch == 1:
        return
    gib = float("inf")
    while size > 1 and gib > limit_gib:
        size = size // 2
        gib = _with(case, per_device_train_batch_size=size)
    times = case.config.gradient_accumulation_steps * batch // size
    words = f"Set the batch size to {size} and the accumulation to {times}"
    yield Cheaper("per_device_train_batch_size", size, words, gib)


def _shorter(case: Case, limit_gib: float) -> Iterator[Cheaper]:
    length, gib = case.plan.max_length, float("inf")
    if length < 2 * SHORTEST:
        return
    while length >= 2 * SHORTEST and gib > limit_gib:
        length //= 2
        plan = replace(case.plan, max_length=length)
        gib = total_gib(case.memory_for(case.config, plan)) or 0.0
    words = f"Cut rows at {length} tokens"
    yield Cheaper("max_seq_length", length, words, gib)


def _lighter(case: Case) -> Iterator[Cheaper]:
    if case.plan.trains == "all":
        adapter = case.config.adapter.model_copy(update={"enabled": True})
        config = case.config.model_copy(update={"adapter": adapter})
        plan = replace(case.plan, trains="adapter")
        gib = total_gib(case.memory_for(config, plan)) or 0.0
        yield Cheaper("adapter.enabled", True, "Train an adapter instead of every weight", gib)
    elif case.plan.quantization == "none" and case.plan.device == "cuda":
        plan = replace(case.plan, quantization="4-bit")
        gib = total_gib(case.memory_for(case.config, plan)) or 0.0
        yield Cheaper("use_4bit", True, "Switch 4-bit weights on", gib)


def _with(case: Case, **changed: object) -> float:
    config = case.config.model_copy(update=changed)
    return total_gib(case.memory_for(config, case.plan)) or 0.0
