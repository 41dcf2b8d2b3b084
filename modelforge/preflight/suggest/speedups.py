"""Options that make a run faster, with their gain and the memory that they take.

The gain is the ratio of two estimates (see `speed`). Its constants come from our own benchmark on
the CPU, and on CUDA from published measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from modelforge.config.plan.make import DEFAULT_LOSS_PIECE, MANY_ROWS
from modelforge.config.plan.memory import COMPILERS
from modelforge.preflight.context import RunContext
from modelforge.preflight.duration import compile_seconds
from modelforge.preflight.speed import batch_layout, estimate_step

WORTHWHILE = 1.01
MIN_BATCH_GAIN = 1.05
MAX_BATCH = 64
# PyTorch's fused AdamW saves kernel launches only; torchtune's README reports 1 % for its own.
FUSED_FACTOR = 1.01
# Relative to sdpa at 1,024 tokens: 2,954 over 2,392 tokens/s (LLaMA-Factory's wiki, Llama-2-7B).
FLASH_FACTOR = 1.2
# Data loader workers; not measured with tokenized rows.
LOADING_FACTOR = 1.01
# torch.compile pays off in runs ten times as long as the compilation.
COMPILE_PAYS_OFF = 10


@dataclass(frozen=True)
class Speedup:
    """One option, and the settings that switch it on.

    Attributes:
        times: Factor on the tokens per second; for an option that is on, the factor it gives.
        gib: Memory that it takes; negative where it saves memory.
        on: Whether the run uses it.
    """

    name: str
    label: str
    settings: dict[str, Any]
    words: str
    times: float
    gib: float
    on: bool


def list_speedups(context: RunContext) -> list[Speedup]:
    """Return every option of the run; empty where its speed is unknown."""
    if not estimate_speed(context):
        return []
    options = [build(context) for build in OPTIONS]
    return [_evaluate(context, option) for option in options if option is not None]


def recommended_settings(context: RunContext) -> dict[str, Any]:
    """Return settings that are worthwhile together, fit, and do not change what is learned.

    Where the run does not fit as it is, gradient checkpointing and smaller batches are added.
    """
    settings: dict[str, Any] = {}
    current = context
    # Two passes, since one option may make another worthwhile: single rows have no padding.
    for build in (*OPTIONS, *OPTIONS) if estimate_speed(context) else ():
        option = build(current)
        if option is None or option.on:
            continue
        speedup = _evaluate(current, option)
        fits = speedup.gib <= 0 or fits_with(context, current, speedup.gib)
        if speedup.times >= WORTHWHILE and fits:
            settings |= speedup.settings
            current = current.with_settings(speedup.settings)
    for saving in _savings(current):
        if fits_with(context, current, 0.0):
            break
        settings |= saving
        current = current.with_settings(saving)
    return settings


def tokens_per_s(context: RunContext) -> float | None:
    """Return the trained tokens per second, measured by a trial run or estimated.

    An estimate is corrected by the last runs on the device.
    """
    measured = context.trial_run.tokens_per_s if context.trial_run else None
    speed = measured or (estimate_speed(context) or 0.0) / (context.step_time_factor or 1.0)
    return round(speed, 1) if speed else None


def _evaluate(context: RunContext, option: SpeedupOption) -> Speedup:
    other = context.with_settings(option.off_settings if option.on else option.on_settings)
    if option.name == "loss":
        plan = replace(context.plan, loss_piece=DEFAULT_LOSS_PIECE)
        other = replace(context, plan=plan)
    faster, slower = (context, other) if option.on else (other, context)
    times = (estimate_speed(faster) or 1.0) / (estimate_speed(slower) or 1.0) * option.factor
    return Speedup(
        option.name,
        option.label,
        dict(option.on_settings),
        option.words,
        round(times, 2),
        round(faster.formula_gib - slower.formula_gib, 2),
        option.on,
    )


def _savings(context: RunContext) -> list[dict[str, Any]]:
    savings: list[dict[str, Any]] = []
    if not context.config.gradient_checkpointing:
        savings.append({"gradient_checkpointing": True})
    batch = context.config.per_device_train_batch_size
    accumulation = context.batches
    while batch % 2 == 0 and context.plan.facts.splits_batch:
        batch, accumulation = batch // 2, accumulation * 2
        savings.append(batch_settings(batch, accumulation))
    return savings


@dataclass(frozen=True)
class SpeedupOption:
    """An option with the settings that switch it on and off.

    `factor` is a gain beyond what the estimates of speed contain.
    """

    name: str
    label: str
    words: str
    on_settings: Mapping[str, Any]
    off_settings: Mapping[str, Any]
    on: bool
    factor: float = 1.0


def estimate_speed(context: RunContext) -> float | None:
    """Return the estimated tokens per second, padding not counted; None where it is unknown."""
    step = estimate_step(context)
    return step.tokens_per_s if step else None


def fits_with(context: RunContext, changed: RunContext, more_gib: float) -> bool:
    """Return whether `changed`, which was derived from `context`, fits with `more_gib` more."""
    free, needed = context.available_gib, context.memory_total_gib
    if free is None or needed is None:
        return False
    return needed + changed.formula_gib - context.formula_gib + more_gib <= free


def batch_settings(batch: int, accumulation: int) -> dict[str, Any]:
    """Return the settings of a batch size and an accumulation."""
    return {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}


def _padding(context: RunContext) -> SpeedupOption | None:
    config, joins_rows = context.config, context.plan.facts.joins_rows
    if not joins_rows or config.task != "text-generation" or context.summary is None:
        return None
    layout = batch_layout(config, context.plan, context.summary)
    on = config.packing or config.data.padding_free
    share = 100 * (1 - layout.useful / layout.tokens)
    words = "Rows are concatenated, so no time is spent on padding"
    return SpeedupOption(
        "padding",
        "Padding-free",
        f"{words}." if on else f"{words}: about {share:.0f} % of each batch now.",
        {"data.padding_free": True, "group_by_length": False},
        {"data.padding_free": False, "packing": False},
        on,
    )


def _grouping(context: RunContext) -> SpeedupOption | None:
    config, batch = context.config, context.config.per_device_train_batch_size
    joined = config.packing or config.data.padding_free
    if not context.plan.facts.groups_by_length or batch == 1 or joined:
        return None
    if _padding(context) is not None:
        return None
    return SpeedupOption(
        "grouping",
        "Group by length",
        "Rows of similar length share a batch, so there is less padding.",
        {"group_by_length": True},
        {"group_by_length": False},
        context.plan.group_by_length,
    )


def _checkpointing(context: RunContext) -> SpeedupOption:
    return SpeedupOption(
        "recomputing",
        "No gradient checkpointing",
        "Activations are stored instead of recomputed; takes memory.",
        {"gradient_checkpointing": False},
        {"gradient_checkpointing": True},
        not context.config.gradient_checkpointing,
    )


def _batch_size(context: RunContext) -> SpeedupOption | None:
    """Return the largest batch that fits and gains 5 % over each smaller one."""
    batch = context.config.per_device_train_batch_size
    rows = context.batches * batch
    if not context.plan.facts.splits_batch or context.config.packing:
        return None
    best, best_speed = batch, estimate_speed(context) or 0.0
    for size in (n for n in range(batch + 1, min(rows, MAX_BATCH) + 1) if rows % n == 0):
        other = context.with_settings(batch_settings(size, rows // size))
        speed = estimate_speed(other) or 0.0
        if speed >= MIN_BATCH_GAIN * best_speed and fits_with(context, other, 0.0):
            best, best_speed = size, speed
    settings = batch_settings(best, rows // best)
    words = "A larger batch uses the device better; the rows per step stay the same."
    return SpeedupOption("batch", "Batch size", words, settings, settings, best == batch)


def _precision(context: RunContext) -> SpeedupOption | None:
    plan = context.plan
    if plan.device == "cpu" and plan.precision == "bf16" and context.machine.slow_bf16:
        words = "This processor has no instructions for bf16, which is much slower than fp32 here."
        fp32 = {"hardware.precision": "fp32", "bf16": False}
        return SpeedupOption("precision", "fp32", words, fp32, {}, False)
    if plan.device == "cuda":
        is_fast = (context.compute_capability or (0, 0)) >= (8, 0)
    else:
        # Measured with decoders and adapters only; fully trained weights stay in 32 bits.
        is_decoder = context.model is not None and context.model.kind == "decoder"
        is_fast = plan.device == "cpu" and context.machine.fast_bf16 and is_decoder
        is_fast = is_fast and plan.trains == "adapter"
    if not is_fast or plan.precision == "fp16":
        return None
    return SpeedupOption(
        "precision",
        "bf16",
        "bf16 is about twice as fast on this device; trained weights stay in 32 bits.",
        {"hardware.precision": "bf16"},
        {"hardware.precision": "fp32", "bf16": False},
        plan.precision == "bf16",
    )


def _dropout(context: RunContext) -> SpeedupOption | None:
    """Return training without dropout where each row is seen once."""
    config = context.config
    seen_once = (context.plan.epochs or config.num_train_epochs) <= 1 or config.lora_dropout == 0
    if context.plan.device != "cpu" or context.plan.trains == "all" or not seen_once:
        return None
    return SpeedupOption(
        "dropout",
        "No dropout",
        "Random numbers are slow on a CPU, and rows that are seen once are not memorized.",
        {"lora_dropout": 0.0},
        {"lora_dropout": 0.1},
        config.lora_dropout == 0,
    )


def _chunked_loss(context: RunContext) -> SpeedupOption | None:
    if not context.plan.facts.chunks_loss:
        return None
    size = context.plan.loss_piece
    words = f"The loss is computed for {size} trained tokens at a time, never for all logits."
    return SpeedupOption("loss", "Chunked loss", words, {}, {}, on=True)


def _optimizer(context: RunContext) -> SpeedupOption | None:
    optim = context.plan.optim
    if context.plan.device != "cuda" or "adamw" not in optim or "8bit" in optim:
        return None
    on = optim == "adamw_torch_fused"
    words = "AdamW as one fused kernel on the GPU."
    settings = {"optim": "adamw_torch_fused"}
    return SpeedupOption(
        "optimizer", "Fused optimizer", words, settings, settings, on, FUSED_FACTOR
    )


def _attention(context: RunContext) -> SpeedupOption | None:
    plan = context.plan
    is_supported = (context.compute_capability or (0, 0)) >= (8, 0)
    is_installed = "flash_attn" in context.machine.packages
    if plan.device != "cuda" or not (is_supported and is_installed) or plan.precision == "fp32":
        return None
    on = plan.attn_implementation.startswith("flash")
    settings = {"model.attn_implementation": "flash_attention_2"}
    words = "Flash attention, without a mask for concatenated rows."
    return SpeedupOption(
        "attention", "Flash attention", words, settings, settings, on, FLASH_FACTOR
    )


def _compilation(context: RunContext) -> SpeedupOption | None:
    """Return torch.compile where the run is long; only CUDA has been measured to gain."""
    plan, model = context.plan, context.model
    supported = plan.device == "cuda" and {*COMPILERS["cuda"]} <= {*context.machine.packages}
    if not supported or plan.quantization != "none" or model is None:
        return None
    step = estimate_step(context)
    wait = compile_seconds(context.config, model)
    training = (plan.total_steps or 0) * step.seconds if step else 0.0
    if training <= COMPILE_PAYS_OFF * wait and not plan.torch_compile:
        return None
    return SpeedupOption(
        "compiling",
        "torch.compile",
        f"The model is compiled first, which takes about {wait:.0f} s; long runs gain.",
        {"trainer.torch_compile": True},
        {"trainer.torch_compile": False},
        plan.torch_compile,
    )


def _unquantized_weights(context: RunContext) -> SpeedupOption | None:
    """Return 16-bit weights: quantized ones save memory but never time."""
    config, stored = context.config, context.plan.quantization
    is_fixed = config.quantization.scheme != "auto" or config.strategy == "qlora"
    if is_fixed or stored not in ("4-bit", "8-bit", "none") or context.plan.trains == "all":
        return None
    return SpeedupOption(
        "weights",
        "16-bit weights",
        "Weights need no dequantization for every multiplication; takes memory.",
        {"use_4bit": False, "use_8bit": False},
        {"use_4bit": True},
        stored == "none",
    )


def _loading(context: RunContext) -> SpeedupOption | None:
    rows = context.summary.rows if context.summary else 0
    if context.plan.device != "cuda" or rows < MANY_ROWS:
        return None
    return SpeedupOption(
        "loading",
        "Data loader workers",
        "Other processes prepare the next batch.",
        {"data.num_workers": 2},
        {"data.num_workers": 0},
        context.plan.num_workers > 0,
        LOADING_FACTOR,
    )


OPTIONS: tuple[Callable[[RunContext], SpeedupOption | None], ...] = (
    _padding,
    _grouping,
    _checkpointing,
    _precision,
    _batch_size,
    _dropout,
    _chunked_loss,
    _optimizer,
    _attention,
    _compilation,
    _unquantized_weights,
    _loading,
)
