"""The levers there are: for each, whether a run has it, and which settings pull it.

What neither the speed nor the memory of `speed` and `memory` shows has its figure and its source
here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelforge.config.plan.make import MANY_ROWS
from modelforge.preflight.context import RunContext
from modelforge.preflight.memory.estimate import total_gib
from modelforge.preflight.speed import batch_layout, estimate_step

STEP_WORTH = 1.05
LARGEST_BATCH = 64
# PyTorch's fused AdamW saves launches only; torchtune's README has 1 % for its like.
FUSED = 1.01
# Against sdpa at 1,024 tokens: 2,954 over 2,392 tokens/s (LLaMA-Factory's wiki, Llama-2-7B).
FLASH = 1.2
# Batches are laid out beside the training; nobody has measured it with rows that are tokens.
LOADING = 1.01
# torch.compile is worth its wait in runs ten times as long; a block took 0.7 s forward
# (accelerate, benchmarks/torch.compile: 10.7 s for 16), and backward takes as long again.
COMPILE_S = 1.4
LONG = 10


@dataclass(frozen=True)
class Choice:
    """A lever before it is weighed: settings with it and without it, and what neither shows."""

    name: str
    label: str
    words: str
    pulled: Mapping[str, Any]
    let_go: Mapping[str, Any]
    on: bool
    beside: float = 1.0


def speed_of(case: RunContext) -> float | None:
    """Return the useful tokens a second of a run; None when that cannot be said."""
    if case.facts is None or case.look is None:
        return None
    update = estimate_step(case.config, case.plan, case.machine, case.facts, case.look)
    return update.tokens_per_s if update else None


def formula_gib(case: RunContext) -> float:
    """Return the memory by arithmetic alone, so that two runs can be compared."""
    return total_gib(case.estimate_memory(case.config, case.plan)) or 0.0


def fits(case: RunContext, now: RunContext, more: float) -> bool:
    """Say whether `now`, which came from `case`, has room for so much more."""
    free, needed = case.available_gib, case.memory_total_gib
    if free is None or needed is None:
        return False
    return needed + formula_gib(now) - formula_gib(case) + more <= free


def accumulation_of(case: RunContext) -> int:
    """Return the batches added up before each update."""
    return case.plan.gradient_accumulation_steps


def batch_of(batch: int, times: int) -> dict[str, Any]:
    """Return the settings of an update of `times` batches."""
    return {"per_device_train_batch_size": batch, "gradient_accumulation_steps": times}


def may_split(case: RunContext) -> bool:
    """Say whether an update may be cut into batches anyhow.

    KTO compares the rows of a batch with each other, and learning from rewards lays out its own.
    """
    return case.plan.method not in ("kto", "rlhf")


def _padding(case: RunContext) -> Choice | None:
    config = case.config
    if case.plan.method != "sft" or config.task != "text-generation" or case.look is None:
        return None
    laid = batch_layout(config, case.plan, case.look)
    on = config.packing or config.data.padding_free
    share = 1 - laid.useful / laid.tokens
    words = "Rows lie end to end, so no time goes into padding"
    return Choice(
        "padding",
        "No padding",
        f"{words}." if on else f"{words}: about {100 * share:.0f} % of each batch now.",
        {"data.padding_free": True, "group_by_length": False},
        {"data.padding_free": False, "packing": False},
        on,
    )


def _grouping(case: RunContext) -> Choice | None:
    method, batch = case.plan.method, case.config.per_device_train_batch_size
    laid_out = case.config.packing or case.config.data.padding_free
    if method in ("kto", "rlhf") or batch == 1 or laid_out or _padding(case) is not None:
        return None
    return Choice(
        "grouping",
        "Rows of one length together",
        "Rows of about the same length share a batch, so there is less padding.",
        {"group_by_length": True},
        {"group_by_length": False},
        case.plan.group_by_length,
    )


def _recomputing(case: RunContext) -> Choice:
    return Choice(
        "recomputing",
        "Activations kept",
        "What the forward pass worked out is kept instead of worked out again; takes memory.",
        {"gradient_checkpointing": False},
        {"gradient_checkpointing": True},
        not case.config.gradient_checkpointing,
    )


def _micro_batch(case: RunContext) -> Choice | None:
    """Offer the largest batch that still speeds up by 5 % for each step to it, and fits."""
    batch, whole = case.config.per_device_train_batch_size, accumulation_of(case)
    whole *= batch
    if not may_split(case) or case.config.packing:
        return None
    best, speed = batch, speed_of(case) or 0.0
    for size in (n for n in range(batch + 1, min(whole, LARGEST_BATCH) + 1) if whole % n == 0):
        other = case.with_settings(batch_of(size, whole // size))
        found = speed_of(other) or 0.0
        if found >= STEP_WORTH * speed and fits(case, other, 0.0):
            best, speed = size, found
    settings = batch_of(best, whole // best)
    words = "More rows at once keep the device busier; an update stays as large."
    return Choice("batch", "Batch size", words, settings, settings, best == batch)


def _precision(case: RunContext) -> Choice | None:
    plan, capability = case.plan, case.gpu.compute_capability if case.gpu else None
    if plan.device == "cuda":
        quick = (capability or (0, 0)) >= (8, 0)
    else:
        # Measured with decoders and adapters only; what is trained whole is kept in 32 bits.
        known = case.facts is not None and case.facts.kind == "decoder"
        quick = plan.device == "cpu" and case.machine.fast_bf16 and known
        quick = quick and plan.trains == "adapter"
    if not quick or plan.precision == "fp16":
        return None
    return Choice(
        "precision",
        "bf16",
        "This processor multiplies in bf16 about twice as fast; what is trained stays in 32 bits.",
        {"hardware.precision": "bf16"},
        {"hardware.precision": "fp32", "bf16": False},
        plan.precision == "bf16",
    )


def _dropout(case: RunContext) -> Choice | None:
    """Offer to leave dropout out where each row is seen once: it guards against memorising."""
    config = case.config
    once = config.num_train_epochs == 1 or config.lora_dropout == 0
    if case.plan.device != "cpu" or case.plan.trains == "all" or not once:
        return None
    return Choice(
        "dropout",
        "No dropout",
        "Drawing its random numbers is slow on a CPU; rows that are seen once are not memorised.",
        {"lora_dropout": 0.0},
        {"lora_dropout": 0.1},
        config.lora_dropout == 0,
    )


def _loss(case: RunContext) -> Choice | None:
    if case.plan.method != "sft":
        return None
    words = f"Answers only, {case.plan.loss_piece} tokens at a time: logits are never held whole."
    return Choice("loss", "Loss in pieces", words, {}, {}, on=True)


def _optimizer(case: RunContext) -> Choice | None:
    if case.plan.device != "cuda" or "adamw" not in case.plan.optim or "8bit" in case.plan.optim:
        return None
    on = case.plan.optim == "adamw_torch_fused"
    words = "AdamW in one piece of code on the card."
    settings = {"optim": "adamw_torch_fused"}
    return Choice("optimizer", "Fused optimizer", words, settings, settings, on, FUSED)


def _attention(case: RunContext) -> Choice | None:
    plan, packages = case.plan, case.machine.packages
    capability = case.gpu.compute_capability if case.gpu else None
    can = "flash_attn" in packages and (capability or (0, 0)) >= (8, 0)
    if plan.device != "cuda" or not can or plan.precision == "fp32":
        return None
    on = plan.attn_implementation.startswith("flash")
    settings = {"model.attn_implementation": "flash_attention_2"}
    words = "Attention block by block, each row by itself."
    return Choice("attention", "Flash attention", words, settings, settings, on, FLASH)


def _compiling(case: RunContext) -> Choice | None:
    """Offer to compile where the run is long; only CUDA has been seen to gain by it."""
    plan, config = case.plan, case.config
    can = plan.device == "cuda" and "triton" in case.machine.packages
    if not can or plan.quantization != "none" or case.facts is None or case.look is None:
        return None
    update = estimate_step(config, plan, case.machine, case.facts, case.look)
    wait = COMPILE_S * (case.facts.layers or 0)
    long = update and (plan.total_steps or 0) * update.seconds > LONG * wait
    if not (long or plan.torch_compile):
        return None
    return Choice(
        "compiling",
        "Compiled",
        f"The model is compiled first, which takes about {wait:.0f} s; long runs gain.",
        {"trainer.torch_compile": True},
        {"trainer.torch_compile": False},
        plan.torch_compile,
    )


def _whole_weights(case: RunContext) -> Choice | None:
    """Offer 16-bit weights: quantized ones save memory and never time."""
    config, stored = case.config, case.plan.quantization
    said = config.quantization.scheme != "auto" or config.strategy == "qlora"
    if said or stored not in ("4-bit", "8-bit", "none") or case.plan.trains == "all":
        return None
    return Choice(
        "weights",
        "16-bit weights",
        "Weights need not be unpacked for every multiplication; takes memory.",
        {"use_4bit": False, "use_8bit": False},
        {"use_4bit": True},
        stored == "none",
    )


def _loading(case: RunContext) -> Choice | None:
    if case.plan.device != "cuda" or (case.look.rows if case.look else 0) < MANY_ROWS:
        return None
    words = "Processes beside the training lay out the next batch."
    pulled, let_go = {"data.num_workers": 2}, {"data.num_workers": 0}
    on = case.plan.num_workers > 0
    return Choice("loading", "Batches laid out beside", words, pulled, let_go, on, LOADING)


CHOICES: tuple[Callable[[RunContext], Choice | None], ...] = (
    _padding,
    _grouping,
    _recomputing,
    _precision,
    _micro_batch,
    _dropout,
    _loss,
    _optimizer,
    _attention,
    _compiling,
    _whole_weights,
    _loading,
)
