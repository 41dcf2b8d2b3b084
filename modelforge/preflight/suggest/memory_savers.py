"""Changes of settings that reduce the memory of a run, by kind, the mildest change first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modelforge.config.optimizers import OPTIMIZERS
from modelforge.config.plan.make import Plan
from modelforge.config.plan.training import effective_accumulation
from modelforge.config.rules.registry import broken_rules
from modelforge.config.schema.config import TrainingConfig
from modelforge.preflight.context import RunContext
from modelforge.preflight.memory.traced import longest_row_tokens

MIN_LENGTH = 128
MIN_RANK = 8
MIN_COMPLETION = 64
# Tokens per micro-batch that use the device fully: below, a smaller batch is slower.
BUSY_TOKENS = 512
# Compute capability from which bitsandbytes works, and from which GPUs support bf16.
QUANTIZED_FROM, BF16_FROM = (6, 0), (8, 0)


@dataclass(frozen=True)
class Saving:
    """A change of settings with its description.

    Attributes:
        cost: Rank of what is lost by it.
        costs: What is lost, in words.
        slowdown: Factor on the duration, used where the speed cannot be estimated.
    """

    settings: dict[str, Any]
    words: str
    cost: float
    costs: str = ""
    slowdown: float = 1.0


@dataclass(frozen=True)
class Draft:
    """A run with changed settings, and its memory.

    `scale` is the factor of the measured memory on the formula's, where it was measured.
    """

    context: RunContext
    gib: float
    scale: float = 1.0
    changes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, context: RunContext) -> Draft:
        """Return the unchanged run."""
        total, formula = context.memory_total_gib or 0.0, context.formula_gib
        return cls(context, total, max(1.0, total / formula) if formula else 1.0)

    def apply(self, settings: Mapping[str, Any]) -> Draft | None:
        """Return the draft with these settings; None where they break a rule."""
        if broken_rules(self.config.with_changes(settings)):
            return None
        context = self.context.with_settings(settings)
        gib = self.scale * context.formula_gib
        return replace(self, context=context, gib=gib, changes={**self.changes, **settings})

    @property
    def config(self) -> TrainingConfig:
        """The settings."""
        return self.context.config

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.context.plan


Saver = Callable[[Draft], Iterator[Saving]]


def smaller_eval_batch(draft: Draft) -> Iterator[Saving]:
    """Yield smaller evaluation batches."""
    config = draft.config
    if not config.evaluates or draft.plan.facts.generates:
        return
    size = config.per_device_eval_batch_size
    while size > 1:
        size //= 2
        words = f"Set the evaluation batch size to {size}"
        yield Saving({"per_device_eval_batch_size": size}, words, 0.3)


def lighter_optimizer(draft: Draft) -> Iterator[Saving]:
    """Yield the same optimizer with 8-bit state."""
    used = draft.plan.optim
    name = f"{used.removesuffix('_32bit')}_8bit"
    name = "adamw_8bit" if used.startswith("adamw_torch") else name
    capability = draft.context.compute_capability
    supported = draft.plan.device == "cuda" and not (capability and capability < QUANTIZED_FROM)
    if name in OPTIMIZERS and supported:
        yield Saving({"optim": name}, "Use the 8-bit optimizer", 0.5)


def smaller_batch(draft: Draft) -> Iterator[Saving]:
    """Yield smaller batches with as much more gradient accumulation.

    In a training from nothing that follows from the tokens of a step.
    """
    config = draft.config
    batch, is_new = config.per_device_train_batch_size, config.pretraining.enabled
    rows = batch * (1 if is_new else effective_accumulation(config))
    for size in range(batch - 1, draft.plan.facts.min_rows - 1, -1):
        if rows % size:
            continue
        busy = size * draft.plan.max_length >= BUSY_TOKENS
        more = {} if is_new else {"gradient_accumulation_steps": rows // size}
        beside = "" if is_new else f" (gradient accumulation to {rows // size})"
        yield Saving(
            {"per_device_train_batch_size": size, **more},
            f"Set the batch size to {size}{beside}",
            0.3,
            slowdown=1.0 if busy else 1.3,
        )


def gradient_checkpointing(draft: Draft) -> Iterator[Saving]:
    """Yield gradient checkpointing."""
    if not draft.config.gradient_checkpointing:
        words = "Switch gradient checkpointing on"
        yield Saving({"gradient_checkpointing": True}, words, 0.3, slowdown=1.3)


def half_precision(draft: Draft) -> Iterator[Saving]:
    """Yield 16-bit precision instead of fp32."""
    context = draft.context
    if draft.plan.precision != "fp32" or draft.plan.device == "mps":
        return
    rounding = "numbers are rounded more coarsely"
    if draft.plan.device == "cpu":
        slow = not context.machine.fast_bf16
        costs = f"much slower; {rounding}" if slow else rounding
        settings = {"hardware.precision": "bf16"}
        yield Saving(settings, "Train in bf16", 6.0 if slow else 0.8, costs)
        return
    capability = context.compute_capability
    precision = "bf16" if capability and capability >= BF16_FROM else "fp16"
    yield Saving({"hardware.precision": precision}, f"Train in {precision}", 0.8, rounding)


def quantization(draft: Draft) -> Iterator[Saving]:
    """Yield 4-bit weights."""
    config, capability = draft.config, draft.context.compute_capability
    too_old = capability is not None and capability < QUANTIZED_FROM
    if draft.plan.trains == "all" or draft.plan.quantization == "4-bit" or too_old:
        return
    settings: dict[str, Any] = {"use_4bit": True}
    if config.quantization.scheme != "auto":
        settings["quantization.scheme"] = "auto"
    if config.use_8bit:
        settings["use_8bit"] = False
    slowdown = 1.35 if draft.plan.device == "cuda" else 3.0
    words, costs = "Switch 4-bit weights on", "the frozen weights are rounded"
    yield Saving(settings, words, 1.5, costs, slowdown)


def nested_quantization(draft: Draft) -> Iterator[Saving]:
    """Yield quantized scales of 4-bit weights."""
    if draft.plan.quantization == "4-bit" and not draft.config.use_nested_quant:
        yield Saving({"use_nested_quant": True}, "Switch nested quantization on", 0.4)


def lower_rank(draft: Draft) -> Iterator[Saving]:
    """Yield smaller adapters with the same ratio of alpha to rank."""
    config = draft.config
    if draft.plan.trains == "all" or config.adapter.start_from is not None:
        return
    rank = config.lora_r
    while rank >= 2 * MIN_RANK:
        rank //= 2
        settings: dict[str, Any] = {"lora_r": rank}
        if config.adapter.alpha_over_r is None:
            settings["lora_alpha"] = max(1, round(config.lora_alpha * rank / config.lora_r))
        words = f"Set the LoRA rank to {rank}"
        yield Saving(settings, words, 2.0, "the adapter can learn less")


def adapter(draft: Draft) -> Iterator[Saving]:
    """Yield an adapter instead of full fine-tuning."""
    if draft.plan.trains == "all" and draft.plan.growing is None:
        settings = {"adapter.enabled": True, "use_4bit": False}
        words = "Train an adapter instead of all weights"
        yield Saving(settings, words, 2.5, "an adapter learns slightly less")


def smaller_growth(draft: Draft) -> Iterator[Saving]:
    """Yield a quantized trunk, and a model that grows without a joint stage."""
    group, plan = draft.config.progressive, draft.plan
    if plan.growing is None:
        return
    if group.joint_tuning_steps:
        words = "Leave the joint stage out"
        lost = "old and new layers are not tuned together"
        yield Saving({"progressive.joint_tuning_steps": 0}, words, 1.5, lost)
    elif group.trunk_quantization == "none" and not plan.is_from_nothing:
        settings = {"progressive.trunk_quantization": "bnb-4bit"}
        slowdown = 1.35 if plan.device == "cuda" else 3.0
        lost = "the frozen weights are rounded"
        yield Saving(settings, "Hold the trunk in 4 bits", 1.5, lost, slowdown)


def shorter_rows(draft: Draft) -> Iterator[Saving]:
    """Yield shorter rows; with packing, more sequences per step keep its tokens the same."""
    config, summary = draft.config, draft.context.summary
    length, factor = draft.plan.max_length, 1
    longest = longest_row_tokens(config, draft.plan, summary)
    if longest < length:
        length = 2 ** (longest - 1).bit_length()
    while length >= 2 * MIN_LENGTH:
        length, factor = length // 2, 2 * factor
        settings = {"max_seq_length": length}
        if config.packing:
            settings["gradient_accumulation_steps"] = config.gradient_accumulation_steps * factor
        words = f"Set the max sequence length to {length:,} tokens"
        is_new = config.pretraining.enabled
        lost = "the context is shorter" if is_new else "rows over {} tokens are truncated"
        cost = 3.0 + factor.bit_length() - 1
        yield Saving(settings, words, cost, lost.format(f"{length:,}"))


def shorter_completions(draft: Draft) -> Iterator[Saving]:
    """Yield shorter generated completions."""
    length = draft.plan.max_completion_length
    while draft.plan.facts.generates and length >= 2 * MIN_COMPLETION:
        length //= 2
        settings = {"trainer.max_completion_length": length}
        words = f"Set the max completion length to {length:,} tokens"
        yield Saving(settings, words, 3.5, "longer completions are cut off")


def smaller_depth(draft: Draft) -> Iterator[Saving]:
    """Yield smaller depths of a model that is trained from nothing."""
    group = draft.config.pretraining
    if not group.enabled:
        return
    for depth in range(group.depth - 1, 0, -1):
        words = f"Set the depth to {depth}"
        yield Saving({"pretraining.depth": depth}, words, 3.0, "the model is smaller")


# In the order in which they are combined: what costs nothing first.
SAVERS: tuple[Saver, ...] = (
    smaller_eval_batch,
    lighter_optimizer,
    smaller_batch,
    gradient_checkpointing,
    half_precision,
    adapter,
    quantization,
    nested_quantization,
    smaller_growth,
    lower_rank,
    shorter_completions,
    shorter_rows,
    smaller_depth,
)
# These reduce what is learned.
LOSSY_SAVERS: tuple[Saver, ...] = (
    lower_rank,
    adapter,
    shorter_completions,
    shorter_rows,
    smaller_depth,
)
