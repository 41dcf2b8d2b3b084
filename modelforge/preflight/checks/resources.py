"""What preflight says of room: does it fit into memory, and onto the disk."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.errors import Finding
from modelforge.preflight.context import RunContext
from modelforge.preflight.memory.estimate import OVERHEAD_GIB, part_gib
from modelforge.preflight.suggest.fit import FitSuggestion, LargestModel

SPARE_DISK_GIB = 2.0
FOLLOWING = {"gradient_accumulation_steps", "lora_alpha", "use_8bit"}


def memory_base(case: RunContext) -> Iterator[Finding]:
    """Refuse a model whose weights alone do not fit."""
    base = _base_gib(case)
    if not case.memory or not _base_is_too_big(case):
        return
    room, free = case.total_memory_gib, case.available_gib
    if room is not None and base > room:
        what = f"The model alone needs about {base:.1f} GiB; the {case.place} has {room:.1f} GiB."
        yield Finding("blocker", "memory-base", what, *_remedy(case))
        return
    yield Finding(
        "blocker",
        "memory-base",
        f"The model alone needs about {base:.1f} GiB; the GPU has {free or 0:.1f} GiB free.",
        f"Close the programs that hold {_held(case)} of the GPU, or choose a smaller model.",
        "model_name",
    )


def memory_short(case: RunContext) -> Iterator[Finding]:
    """Warn of a run that fits only just or not, and offer each cheaper setting with its total."""
    total, free = case.memory_total_gib, case.available_gib
    if total is None or free is None or total <= free or _base_is_too_big(case):
        return
    code = "memory-short" if case.plan.device == "cuda" else "ram-short"
    what = f"The run needs about {total:.1f} GiB; the {case.place} has {free:.1f} GiB free."
    yield Finding("caution", code, what, *_remedy(case))
    best = _best(case)
    for way in case.ways:
        if way is not best:
            yield Finding(
                "note",
                "memory-option",
                f"It would come to about {way.gib:.1f} GiB another way.",
                f"{way.words}.",
                *_setting(way),
            )


def memory_unknown(case: RunContext) -> Iterator[Finding]:
    """Tell when the model's shape gives no estimate."""
    if case.facts is not None and not case.memory:
        yield Finding(
            "note",
            "memory-unknown",
            f"The memory of {case.facts.name} cannot be estimated: its shape is not a known one.",
            "Start with a small batch size and watch the memory.",
            "model_name",
        )


def disk(case: RunContext) -> Iterator[Finding]:
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


def _base_gib(case: RunContext) -> float:
    # On the CPU malloc keeps a share of the activations, which are no part of the model.
    around = min(OVERHEAD_GIB, part_gib(case.memory, "overhead"))
    return part_gib(case.memory, "weights") + around


def _base_is_too_big(case: RunContext) -> bool:
    if case.trial_run is not None:
        return False  # it has been loaded here, whatever was worked out
    base, room, free = _base_gib(case), case.total_memory_gib, case.available_gib
    if room is not None and base > room:
        return True
    # The computer can swap and drop caches, a card cannot.
    return case.plan.device == "cuda" and free is not None and base > free


def _held(case: RunContext) -> str:
    held = case.gpu.other_gib if case.gpu else None
    if held is None and case.gpu and case.gpu.total_gib and case.gpu.free_gib is not None:
        held = case.gpu.total_gib - case.gpu.free_gib
    return f"{held:.1f} GiB" if held else "memory"


def _best(case: RunContext) -> FitSuggestion | None:
    """Return the way that a finding names: of those that fit a single change, which it can set."""
    fitting = [way for way in case.ways if way.fits]
    return next((way for way in fitting if _is_single(way)), next(iter(fitting), None))


def _remedy(case: RunContext) -> tuple[str, str, object]:
    """Return what helps, the setting that does it, and its value where one is enough."""
    best = _best(case)
    if best is None:
        return f"It cannot be made to fit here. {_instead(case.largest)}", "model_name", None
    return (f"{best.words}: about {best.gib:.1f} GiB.", *_setting(best))


def _setting(way: FitSuggestion) -> tuple[str, object]:
    where, value = next(iter(way.settings.items()))
    return where, value if _is_single(way) else None


def _is_single(way: FitSuggestion) -> bool:
    # The accumulation and alpha only follow what is changed.
    return len(way.settings.keys() - FOLLOWING) == 1


def _instead(largest: LargestModel | None) -> str:
    if largest is None:
        return "Choose a smaller model."
    return f"The largest model that fits is {largest.name}, at about {largest.gib:.1f} GiB."
