"""The part of the plan about learning: updates, batches, optimizer and schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from modelforge.config.optimizers import OPTIMIZERS
from modelforge.config.plan.context import Change, ChangeLog, PlanContext
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import ConfigError, Problem

DECAY_SHARE = 0.2
# How full packed sequences become: 0.96 to 0.99 with rows of 39 to 131 tokens in 256.
PACKED_SHARE = 0.97
# What a schedule is called that ends above zero. Only these can.
ENDS_ABOVE_ZERO = {
    "cosine": "cosine_with_min_lr",
    "linear": "polynomial",
    "polynomial": "polynomial",
    "warmup_stable_decay": "warmup_stable_decay",
}


def total_steps(
    config: TrainingConfig,
    train_rows: int | None,
    row_tokens: float | None = None,
    length: int | None = None,
) -> int | None:
    """Return the number of updates, or None while the number of rows is unknown.

    As the Transformers Trainer counts: a last short batch of an epoch is an update too. Learning
    from rewards takes whole updates only, each of several answers to every prompt of it. With
    packing, rows of about `row_tokens` share sequences of `length`.
    """
    if config.max_steps > 0:
        return config.max_steps
    if train_rows is None:
        return None
    each = config.per_device_train_batch_size
    if config.strategy == "rlhf":
        prompts = each * effective_accumulation(config) // config.trainer.num_generations
        return max(1, train_rows // prompts) * config.num_train_epochs
    if config.packing and row_tokens and length:
        train_rows = packed_rows(train_rows, row_tokens, length)
    batches = -(-train_rows // each)
    return max(1, -(-batches // config.gradient_accumulation_steps)) * config.num_train_epochs


def packed_rows(rows: int, row_tokens: float, length: int) -> int:
    """Return about how many sequences so many rows fill."""
    return max(1, math.ceil(rows * min(row_tokens, length) / (length * PACKED_SHARE)))


def effective_accumulation(config: TrainingConfig) -> int:
    """Return the accumulation: as said, or the next with which answers to a prompt stay together.

    Answers are compared within an update, so an update holds all of those to each prompt.
    """
    said, batch = config.gradient_accumulation_steps, config.per_device_train_batch_size
    if config.strategy != "rlhf":
        return said
    return generation_batching(batch, said, config.trainer.num_generations).accumulation


def accumulation(config: TrainingConfig, ledger: ChangeLog) -> int:
    """Return the batches added up before each update."""
    said, used = config.gradient_accumulation_steps, effective_accumulation(config)
    if used != said:
        answers = config.trainer.num_generations
        reason = f"An update holds all {answers} answers to each of its prompts."
        ledger.record("gradient_accumulation_steps", used, reason)
    return used


def eval_interval(
    config: TrainingConfig, total: int | None, changes: list[Change] | None = None
) -> int | None:
    """Return the updates between evaluations, never more than the run has; None = no evaluation."""
    if config.eval_split == 0 and not config.data.validation_sources:
        return None
    if total is None or config.eval_steps <= total:
        return config.eval_steps
    if changes is not None:
        reason = f"The run has only {total} updates, so that check would never come."
        changes.append(Change("eval_steps", config.eval_steps, total, reason))
    return total


def save_interval(config: TrainingConfig, every: int | None, ledger: ChangeLog) -> int:
    """Return the updates between checkpoints, -1 for the end only; `every` is between checks.

    Where the best is kept it is chosen among checkpoints, so each falls on a check.
    """
    said = config.trainer.save_steps
    if said is None or said == 0:
        return every or config.eval_steps
    if said == -1 or every is None or not config.evaluation.keep_best or said % every == 0:
        return said
    fitting = -(-said // every) * every
    reason = f"The best checkpoint is kept, so each is saved at a check, every {every} updates."
    ledger.record("trainer.save_steps", fitting, reason)
    return fitting


def optim(config: TrainingConfig, ground: PlanContext, ledger: ChangeLog) -> str:
    """Return the optimizer, or its like where the device lacks it."""
    facts = OPTIMIZERS[config.optim]
    if ground.device == "mps" and facts.on_mps:
        reason = "Optimizers of bitsandbytes need a CUDA card or a CPU."
        return str(ledger.record("optim", facts.on_mps, reason))
    if ground.device != "cuda" and facts.without_cuda:
        reason = "Paging needs a CUDA card; the same optimizer without it."
        return str(ledger.record("optim", facts.without_cuda, reason))
    return config.optim


def scheduler(config: TrainingConfig, ledger: ChangeLog) -> tuple[str, dict[str, Any]]:
    """Return the schedule by its name in Transformers, and what it takes beside the warm-up."""
    said, rate = config.lr_scheduler_type, config.learning_rate
    final = config.schedule.final_lr_fraction
    if said == "constant" and _warms_up(config):
        reason = "Plain constant ignores the warm-up."
        return str(ledger.record("lr_scheduler_type", "constant_with_warmup", reason)), {}
    if said == "warmup_stable_decay":
        return said, _decay(config)
    if said == "cosine_with_restarts":
        return said, {"num_cycles": max(2, config.num_train_epochs)}
    if final > 0 and said in ENDS_ABOVE_ZERO:
        used = ENDS_ABOVE_ZERO[said]
        if used != said:
            reason = f"It ends at {100 * final:g} % of the learning rate, which {said} cannot."
            ledger.record("lr_scheduler_type", used, reason)
        if used == "cosine_with_min_lr":
            return used, {"min_lr_rate": final}
        return used, {"lr_end": final * rate, "power": 1.0}
    # The polynomial schedule refuses rates at or below its own end value of 1e-7.
    return said, {"lr_end": min(1e-7, rate / 10)} if said == "polynomial" else {}


def warmup(config: TrainingConfig, total: int | None) -> float:
    """Return the warm-up: below 1 a share of the run, else a number of updates."""
    if config.schedule.warmup_steps is not None:
        return float(config.schedule.warmup_steps)
    # Transformers reads a share below 1 as a ratio, and 1.0 as one step.
    if config.warmup_ratio < 1:
        return config.warmup_ratio
    return float(total) if total is not None else 0.999999


def _warms_up(config: TrainingConfig) -> bool:
    steps = config.schedule.warmup_steps
    return config.warmup_ratio > 0 if steps is None else steps > 0


def _decay(config: TrainingConfig) -> dict[str, Any]:
    # Below 1 a share of the run: the worker makes updates of it once it has counted them.
    schedule = config.schedule
    ratio = DECAY_SHARE if schedule.decay_ratio is None else schedule.decay_ratio
    return {
        "num_decay_steps": ratio if schedule.decay_steps is None else schedule.decay_steps,
        "decay_type": schedule.decay_shape,
        "min_lr_ratio": schedule.final_lr_fraction,
    }


@dataclass(frozen=True)
class GenerationBatching:
    """One update: `batch` answers at once, `accumulation` times, of `prompts` prompts in all."""

    batch: int
    accumulation: int
    generations: int

    @property
    def completions(self) -> int:
        """How many answers are made for one update."""
        return self.batch * self.accumulation

    @property
    def prompts(self) -> int:
        """How many prompts are answered for one update."""
        return self.completions // self.generations

    def steps(self, prompts: int) -> int:
        """Return the updates of one epoch; prompts that fill no update wait for the next."""
        return prompts // self.prompts


def generation_batching(
    batch: int, accumulation: int, generations: int, prompts: int | None = None
) -> GenerationBatching:
    """Return the layout nearest to what was asked, with every prompt's answers in one update.

    The accumulation is raised until they fit, and lowered where an update would need more
    prompts than there are. Raises ConfigError when no accumulation can do both.
    """
    unit = generations // math.gcd(batch, generations)
    wanted = -(-accumulation // unit) * unit
    if prompts is None:
        return GenerationBatching(batch, wanted, generations)
    most = prompts * generations // batch // unit * unit
    if most < unit:
        raise ConfigError(_too_few(batch, unit, generations, prompts))
    return GenerationBatching(batch, min(wanted, most), generations)


def _too_few(batch: int, unit: int, generations: int, prompts: int) -> Problem:
    needed = batch * unit // generations
    return Problem(
        "per_device_train_batch_size",
        f"{batch} answers at once, {generations} to each prompt, need {needed} prompts for one "
        f"update; there {'is' if prompts == 1 else 'are'} {prompts}.",
        f"Set the batch size to {generations} or a part of it, or give more rows.",
    )
