"""Checks of memory and disk space."""

from __future__ import annotations

from collections.abc import Iterator

from modelforge.errors import Finding, blocker, caution, note
from modelforge.preflight.context import RunContext
from modelforge.preflight.disk import disk_needed_gib
from modelforge.preflight.memory.estimate import OVERHEAD_GIB, host_gib, part_gib
from modelforge.preflight.memory.traced import longest_row_tokens
from modelforge.preflight.merging import merge_memory_gib, merges
from modelforge.preflight.suggest.fit import FitOptions, FitSuggestion

MIN_FREE_DISK_GIB = 2.0
MERGE = "adapter.merge_after_training"
# Settings that only follow another change.
DEPENDENT_SETTINGS = {"gradient_accumulation_steps", "lora_alpha", "use_8bit"}


def weights_too_large(context: RunContext, fit: FitOptions) -> Iterator[Finding]:
    """Refuse a model whose weights alone do not fit."""
    base = _base_gib(context)
    if not context.memory or not _weights_do_not_fit(context):
        return
    total, free = context.total_memory_gib, context.available_gib
    needed = f"The model alone needs about {base:.1f} GiB; the {context.device_name} has"
    if total is not None and base > total:
        what = f"{needed} {total:.1f} GiB."
        yield blocker("memory-base", what, *_remedy(fit))
        return
    yield blocker(
        "memory-base",
        f"{needed} {free or 0:.1f} GiB free.",
        f"Close the programs that use {_used_memory(context)} of the GPU, or choose a smaller "
        "model.",
        "model_name",
    )


def memory_short(context: RunContext, fit: FitOptions) -> Iterator[Finding]:
    """Warn of a run that does not fit, and suggest settings with the memory they need."""
    total, free = context.memory_total_gib, context.available_gib
    if total is None or free is None or total <= free or _weights_do_not_fit(context):
        return
    code = "memory-short" if context.plan.device == "cuda" else "ram-short"
    what = (
        f"The run needs about {total:.1f} GiB; the {context.device_name} has {free:.1f} GiB free."
    )
    yield caution(code, what, *_remedy(fit))
    best = _best(fit)
    for suggestion in fit.suggestions:
        if suggestion is not best:
            yield note(
                "memory-option",
                f"Another option needs about {suggestion.gib:.1f} GiB.",
                f"{suggestion.words}.",
                *_setting(suggestion),
            )


def merge_needs_memory(context: RunContext) -> Iterator[Finding]:
    """Warn of a merge at the end that needs more main memory than is free."""
    model, free = context.model, context.machine.ram_free_gib
    if model is None or free is None or not merges(context.config, context.plan):
        return
    needed = merge_memory_gib(model)
    # On the CPU the training itself holds the model in main memory.
    free -= part_gib(context.memory, "weights") if context.plan.device == "cpu" else 0.0
    if needed > free:
        yield caution(
            "merge-memory",
            f"Merging the adapter needs about {needed:.1f} GiB of main memory; about "
            f"{max(0.0, free):.1f} GiB will be free.",
            "Merge it later on the Export page, on a computer with more memory.",
            MERGE,
            False,
        )


def merge_impossible(context: RunContext) -> Iterator[Finding]:
    """Refuse a merge into weights that are stored quantized."""
    model = context.model
    if model is not None and model.quantization and merges(context.config, context.plan):
        yield blocker(
            "merge-quantized",
            f"The weights of {model.name} are stored quantized ({model.quantization}); merging "
            "would round them again.",
            "Set it to false, or train on the model with 16-bit weights.",
            MERGE,
            False,
        )


def memory_unknown(context: RunContext) -> Iterator[Finding]:
    """Note a model whose dimensions give no estimate."""
    if context.model is not None and not context.memory:
        yield note(
            "memory-unknown",
            f"The memory of {context.model.name} cannot be estimated: its architecture is unknown.",
            "Start with a small batch size and watch the memory.",
            "model_name",
        )


def memory_limited(context: RunContext) -> Iterator[Finding]:
    """Note a run that may use only a share of the GPU's memory."""
    fraction, gpu = context.plan.max_vram_fraction, context.gpu
    if fraction < 1 and gpu is not None and gpu.total_gib is not None:
        yield note(
            "memory-limited",
            f"The run may use {fraction:.0%} of the GPU's memory: {fraction * gpu.total_gib:.1f} "
            f"of {gpu.total_gib:.1f} GiB. Beyond it, it runs out of memory.",
            where="memory.max_vram_fraction",
        )


def host_memory_short(context: RunContext) -> Iterator[Finding]:
    """Warn of offloaded activations that do not fit in the memory of the computer."""
    if not context.plan.activation_offload or context.model is None or not context.memory:
        return
    config, plan, free = context.config, context.plan, context.machine.ram_free_gib
    length = longest_row_tokens(config, plan, context.summary)
    needed = host_gib(config, plan, context.model, length)
    if free is not None and needed > free:
        yield caution(
            "host-memory-short",
            f"Offloaded activations need about {needed:.1f} GiB of the computer's memory, which "
            f"has {free:.1f} GiB free.",
            "Switch gradient checkpointing on, or use shorter rows or a smaller batch."
            if not config.gradient_checkpointing
            else "Use shorter rows or a smaller batch, or switch offloading off.",
            "memory.activation_offload",
            False,
        )


def disk_space(context: RunContext) -> Iterator[Finding]:
    """Refuse a run that does not fit on the disk, and warn when little space would remain."""
    needed = disk_needed_gib(context.config, context.plan, context.model)
    free = context.machine.disk_free_gib
    if needed is None or free is None or free >= needed + MIN_FREE_DISK_GIB:
        return
    downloads = context.model is not None and not context.model.local
    included = ", the download of the model included" if downloads else ""
    blocked = free < needed
    yield Finding(
        "blocker" if blocked else "caution",
        "disk-full" if blocked else "disk-short",
        f"The run writes about {needed:.1f} GiB{included}; "
        f"the disk of {context.home.root} has {free:.1f} GiB free.",
        "Delete old runs or other files, or set MODELFORGE_HOME to a larger disk.",
    )


def _base_gib(context: RunContext) -> float:
    # On the CPU the overhead contains a share of the activations.
    overhead = min(OVERHEAD_GIB, part_gib(context.memory, "overhead"))
    return part_gib(context.memory, "weights") + overhead


def _weights_do_not_fit(context: RunContext) -> bool:
    if context.trial_run is not None:
        return False  # the model has been loaded on this machine
    base, total, free = _base_gib(context), context.total_memory_gib, context.available_gib
    if total is not None and base > total:
        return True
    # A computer can swap and drop caches, a GPU cannot.
    return context.plan.device == "cuda" and free is not None and base > free


def _used_memory(context: RunContext) -> str:
    gpu = context.gpu
    used = gpu.other_gib if gpu else None
    if used is None and gpu and gpu.total_gib and gpu.free_gib is not None:
        used = gpu.total_gib - gpu.free_gib
    return f"{used:.1f} GiB" if used else "memory"


def _best(fit: FitOptions) -> FitSuggestion | None:
    """Return the suggestion of the finding: one that fits, preferably with a single setting."""
    fitting = [suggestion for suggestion in fit.suggestions if suggestion.fits]
    single = next((suggestion for suggestion in fitting if _is_single(suggestion)), None)
    return single or next(iter(fitting), None)


def _remedy(fit: FitOptions) -> tuple[str, str, object]:
    """Return the remedy, the setting to change, and its value where one setting is enough."""
    best = _best(fit)
    if best is not None:
        return (f"{best.words}: about {best.gib:.1f} GiB.", *_setting(best))
    instead = "Choose a smaller model."
    if fit.largest is not None:
        largest = fit.largest
        instead = f"The largest model that fits is {largest.name}, at about {largest.gib:.1f} GiB."
    return f"No settings make it fit here. {instead}", "model_name", None


def _setting(suggestion: FitSuggestion) -> tuple[str, object]:
    where, value = next(iter(suggestion.settings.items()))
    return where, value if _is_single(suggestion) else None


def _is_single(suggestion: FitSuggestion) -> bool:
    return len(suggestion.settings.keys() - DEPENDENT_SETTINGS) == 1
