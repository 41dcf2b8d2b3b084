"""What lowers the memory of a run: each family of changes, the gentlest step first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from modelforge.config.optimizers import OPTIMIZERS
from modelforge.config.plan.make import Plan
from modelforge.config.plan.training import effective_accumulation
from modelforge.config.rules.registry import broken_rules
from modelforge.config.schema.config import TrainingConfig
from modelforge.preflight.memory.estimate import total_gib
from modelforge.preflight.speed import max_tokens

if TYPE_CHECKING:
    from modelforge.preflight.context import RunContext

SHORTEST = 128
LOWEST_RANK = 8
FEWEST_ANSWER = 64
# Tokens at once that keep a device busy: below, a smaller batch is slower too.
BUSY_TOKENS = 512
# From here bitsandbytes works at all, and from there cards have bf16.
QUANTIZED_FROM, BF16_FROM = (6, 0), (8, 0)


@dataclass(frozen=True)
class Step:
    """Some settings and their words.

    `pain` ranks what is lost by it; `times` is how many times as long a run takes.
    """

    settings: dict[str, Any]
    words: str
    pain: float
    costs: str = ""
    times: float = 1.0


@dataclass(frozen=True)
class Draft:
    """A run with some settings said otherwise, and the memory it comes to.

    `scale` is how much more is needed than the formula says, where it was measured.
    """

    case: RunContext
    gib: float
    scale: float = 1.0
    said: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, case: RunContext) -> Draft:
        """Return a case as it stands; what is measured of it holds for what is changed too."""
        total = case.memory_total_gib or 0.0
        formula = total_gib(case.estimate_memory(case.config, case.plan)) or 0.0
        return cls(case, total, max(1.0, total / formula) if formula else 1.0)

    def after(self, settings: Mapping[str, Any]) -> Draft | None:
        """Return the draft with these settings; None where they break a rule."""
        if broken_rules(self.case.config.with_changes(settings)):
            return None
        case = self.case.with_settings(settings)
        formula = total_gib(case.estimate_memory(case.config, case.plan)) or 0.0
        return replace(self, case=case, gib=self.scale * formula, said={**self.said, **settings})

    @property
    def config(self) -> TrainingConfig:
        """The settings."""
        return self.case.config

    @property
    def plan(self) -> Plan:
        """What they come to."""
        return self.case.plan


Family = Callable[[Draft], Iterator[Step]]


def fewer_checked(draft: Draft) -> Iterator[Step]:
    """Yield fewer held-out rows at once."""
    config = draft.config
    checked = config.eval_split > 0 or config.data.validation_sources
    if not checked or config.strategy == "rlhf":
        return
    size = config.per_device_eval_batch_size
    while size > 1:
        size //= 2
        words = f"Check {size} held-out {'row' if size == 1 else 'rows'} at once"
        yield Step({"per_device_eval_batch_size": size}, words, 0.3)


def lighter_optimizer(draft: Draft) -> Iterator[Step]:
    """Yield the same optimizer with its memory in 8 bits."""
    name = f"{draft.config.optim.removesuffix('_32bit')}_8bit"
    name = "adamw_8bit" if draft.config.optim.startswith("adamw_torch") else name
    card = draft.case.gpu.compute_capability if draft.case.gpu else None
    if name not in OPTIMIZERS or draft.plan.device != "cuda" or (card and card < QUANTIZED_FROM):
        return
    yield Step({"optim": name}, "Keep the optimizer's memory in 8 bits", 0.5)


def smaller_batch(draft: Draft) -> Iterator[Step]:
    """Yield fewer rows at once, and as many more times an update."""
    config = draft.config
    batch = config.per_device_train_batch_size
    whole = batch * effective_accumulation(config)
    # KTO holds every answer of a batch against another one.
    least = 2 if draft.plan.method == "kto" else 1
    for size in range(batch - 1, least - 1, -1):
        if whole % size:
            continue
        busy = size * draft.plan.max_length >= BUSY_TOKENS
        yield Step(
            {"per_device_train_batch_size": size, "gradient_accumulation_steps": whole // size},
            f"Set the batch size to {size} (accumulation to {whole // size})",
            0.3,
            times=1.0 if busy else 1.3,
        )


def recomputing(draft: Draft) -> Iterator[Step]:
    """Yield gradient checkpointing: what training would remember is worked out again."""
    if not draft.config.gradient_checkpointing:
        words = "Switch gradient checkpointing on"
        yield Step({"gradient_checkpointing": True}, words, 0.3, times=1.3)


def sixteen_bits(draft: Draft) -> Iterator[Step]:
    """Yield 16-bit numbers in place of 32-bit ones."""
    case = draft.case
    if draft.plan.precision != "fp32" or draft.plan.device == "mps":
        return
    rounded = "numbers are rounded more coarsely"
    if draft.plan.device == "cpu":
        slow = not case.machine.fast_bf16
        costs = f"much slower; {rounded}" if slow else rounded
        yield Step({"hardware.precision": "bf16"}, "Compute in bf16", 6.0 if slow else 0.8, costs)
        return
    card = case.gpu.compute_capability if case.gpu else None
    number = "bf16" if card and card >= BF16_FROM else "fp16"
    yield Step({"hardware.precision": number}, f"Compute in {number}", 0.8, rounded)


def quantizing(draft: Draft) -> Iterator[Step]:
    """Yield the frozen weights in 4 bits."""
    config, card = draft.config, draft.case.gpu
    old = card is not None and card.compute_capability and card.compute_capability < QUANTIZED_FROM
    if draft.plan.trains == "all" or draft.plan.quantization == "4-bit" or old:
        return
    settings: dict[str, Any] = {"use_4bit": True}
    if config.quantization.scheme != "auto":
        settings["quantization.scheme"] = "auto"
    if config.use_8bit:
        settings["use_8bit"] = False
    on_card = draft.plan.device == "cuda"
    yield Step(
        settings,
        "Switch 4-bit weights on",
        1.5,
        "the frozen weights are rounded",
        1.35 if on_card else 3.0,
    )


def nesting(draft: Draft) -> Iterator[Step]:
    """Yield 4-bit weights whose scales are quantized too."""
    if draft.plan.quantization == "4-bit" and not draft.config.use_nested_quant:
        yield Step({"use_nested_quant": True}, "Switch nested quantization on", 0.4)


def lower_rank(draft: Draft) -> Iterator[Step]:
    """Yield smaller adapters, with the share of alpha as it is."""
    config = draft.config
    if draft.plan.trains == "all" or config.adapter.start_from is not None:
        return
    rank = config.lora_r
    while rank >= 2 * LOWEST_RANK:
        rank //= 2
        settings: dict[str, Any] = {"lora_r": rank}
        if config.adapter.alpha_over_r is None:
            settings["lora_alpha"] = max(1, round(config.lora_alpha * rank / config.lora_r))
        words = f"Set the LoRA rank to {rank}"
        yield Step(settings, words, 2.0, "the adapter can learn less")


def adapting(draft: Draft) -> Iterator[Step]:
    """Yield an adapter in place of every weight."""
    if draft.plan.trains == "all":
        settings = {"adapter.enabled": True, "use_4bit": False}
        words = "Train an adapter instead of every weight"
        yield Step(settings, words, 2.5, "an adapter learns a little less")


def shorter_rows(draft: Draft) -> Iterator[Step]:
    """Yield shorter rows; packed ones are as many more an update, so its tokens stay as many."""
    config, look = draft.config, draft.case.look
    length, times = draft.plan.max_length, 1
    longest = max_tokens(look.longest_chars) if look and not config.packing else length
    if longest < length:
        length = 2 ** (longest - 1).bit_length()
    while length >= 2 * SHORTEST:
        length, times = length // 2, 2 * times
        settings = {"max_seq_length": length}
        if config.packing:
            settings["gradient_accumulation_steps"] = config.gradient_accumulation_steps * times
        words = f"Cut rows at {length:,} tokens"
        yield Step(
            settings, words, 3.0 + times.bit_length() - 1, f"rows over {length:,} tokens are cut"
        )


def shorter_answers(draft: Draft) -> Iterator[Step]:
    """Yield shorter answers where answers are written and rewarded."""
    length = draft.config.trainer.max_completion_length
    while draft.config.strategy == "rlhf" and length >= 2 * FEWEST_ANSWER:
        length //= 2
        settings = {"trainer.max_completion_length": length}
        words = f"End answers at {length:,} tokens"
        yield Step(settings, words, 3.5, "longer answers are cut")


# In the order in which they are taken together: what costs nothing first.
FAMILIES: tuple[Family, ...] = (
    fewer_checked,
    lighter_optimizer,
    smaller_batch,
    recomputing,
    sixteen_bits,
    adapting,
    quantizing,
    nesting,
    lower_rank,
    shorter_answers,
    shorter_rows,
)
# With these less is learned.
LOSING: tuple[Family, ...] = (lower_rank, adapting, shorter_answers, shorter_rows)
