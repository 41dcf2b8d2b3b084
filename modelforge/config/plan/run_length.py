"""The length of a run: which setting rules it, and how many optimizer steps that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath

from modelforge.config.methods import facts_of
from modelforge.config.plan.context import ChangeLog, ModelFlops, PlanContext
from modelforge.config.plan.training import effective_accumulation
from modelforge.config.schema.base import AUTO
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.run_length import Measure

# Records of `auto` with the context length of the model: those of NeMo Safe Synthesizer.
AUTO_RECORDS = 25_000
# Share of a packed sequence that is filled: 0.96 to 0.99 with rows of 39 to 131 tokens in 256.
PACKED_SHARE = 0.97
# Shares of an epoch that differ by less are the same: what is left of dividing two numbers.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows.

    Attributes:
        rows: Rows, before packing.
        sequences: Sequences that batches are made of: packed ones, or the rows.
        per_step: Sequences of a full step.
        steps: Steps of the pass; its last one may have fewer sequences.
        tokens: Tokens without padding; None while they are unknown.
    """

    rows: int
    sequences: int
    per_step: float
    steps: int
    tokens: float | None = None

    def steps_for(self, epochs: float) -> int:
        """Return the steps of this many passes, the last one possibly in part."""
        whole, part = divmod(epochs + ROUNDING, 1)
        rest = math.ceil(max(0.0, part - 2 * ROUNDING) * self.sequences / self.per_step)
        return max(1, int(whole) * self.steps + min(self.steps, rest))


@dataclass(frozen=True)
class RunLength:
    """The length of a run in every measure; None where it is unknown.

    Attributes:
        measure: The setting that rules.
        steps: Optimizer steps.
        epochs: Passes over the training rows.
        tokens: Tokens that are read, without padding.
        flops: Floating point operations of the model, without recomputed activations.
    """

    measure: Measure
    steps: int | None = None
    epochs: float | None = None
    tokens: int | None = None
    flops: float | None = None


def ruling_measure(config: TrainingConfig) -> Measure:
    """Return the setting that rules the length: the first that is set, in the order of Measure."""
    set_values: dict[Measure, bool] = {
        "max_steps": config.max_steps > 0,
        "trainer.target_flops": config.trainer.target_flops is not None,
        "trainer.target_tokens": config.trainer.target_tokens is not None,
        "data.records_to_sample": config.data.records_to_sample is not None,
        "trainer.fractional_epochs": config.trainer.fractional_epochs is not None,
    }
    return next((name for name, is_set in set_values.items() if is_set), "num_train_epochs")


def counts_epochs(config: TrainingConfig) -> bool:
    """Return whether the whole epochs of the contract rule the length."""
    return ruling_measure(config) == "num_train_epochs"


def records_to_sample(config: TrainingConfig, rope_factor: float = 1.0) -> int | None:
    """Return the records of the whole run; `auto` is 25,000 times the RoPE factor."""
    records = config.data.records_to_sample
    return math.ceil(AUTO_RECORDS * rope_factor) if records == AUTO else records


def epochs_of_run(
    config: TrainingConfig, epoch: Epoch, flops_per_token: float | None, rope_factor: float = 1.0
) -> float | None:
    """Return the passes over the rows by the measure that rules; None where it cannot be known.

    `flops_per_token` and the tokens of the epoch matter only where FLOPs or tokens rule.
    """
    trainer, tokens = config.trainer, epoch.tokens
    match ruling_measure(config):
        case "max_steps":
            return config.max_steps / epoch.steps
        case "trainer.target_flops":
            if not tokens or not flops_per_token:
                return None
            return (trainer.target_flops or 0.0) / flops_per_token / tokens
        case "trainer.target_tokens":
            return (trainer.target_tokens or 0) / tokens if tokens else None
        case "data.records_to_sample":
            return (records_to_sample(config, rope_factor) or 0) / epoch.rows
        case "trainer.fractional_epochs":
            return trainer.fractional_epochs
        case _:
            return float(config.num_train_epochs)


def planned_epoch(
    config: TrainingConfig,
    train_rows: int,
    row_tokens: float | None = None,
    length: int | None = None,
) -> Epoch:
    """Return one pass over rows of about `row_tokens` tokens, cut off at `length`.

    Counts like the Transformers Trainer, where the last short batch of an epoch is a step too.
    Methods that generate completions take whole steps only. With packing, rows share sequences of
    `length`.
    """
    tokens = None
    if row_tokens:
        tokens = train_rows * (min(row_tokens, length) if length else row_tokens)
    batch, accumulation = config.per_device_train_batch_size, effective_accumulation(config)
    if facts_of(config).generates:
        prompts = batch * accumulation // config.trainer.num_generations
        steps = max(1, train_rows // prompts)
        return Epoch(train_rows, train_rows, prompts, steps, tokens)
    sequences = train_rows
    if config.packing and row_tokens and length:
        sequences = packed_rows(train_rows, row_tokens, length)
    batches = -(-sequences // batch)
    steps = max(1, -(-batches // accumulation))
    return Epoch(train_rows, sequences, batch * accumulation, steps, tokens)


def packed_rows(rows: int, row_tokens: float, length: int) -> int:
    """Return about how many packed sequences of `length` tokens the rows fill."""
    return max(1, math.ceil(rows * min(row_tokens, length) / (length * PACKED_SHARE)))


def run_length(
    config: TrainingConfig, context: PlanContext, length: int, rope_factor: float = 1.0
) -> RunLength:
    """Return the length of the run; `length` is that of the longest row in tokens."""
    measure = ruling_measure(config)
    if context.train_rows is None:
        return RunLength(measure, config.max_steps if config.max_steps > 0 else None)
    epoch = planned_epoch(config, context.train_rows, context.row_tokens, length)
    per_token = flops_per_token(config, context, length)
    epochs = epochs_of_run(config, epoch, per_token, rope_factor)
    if epochs is None:
        return RunLength(measure)
    steps = config.max_steps if measure == "max_steps" else epoch.steps_for(epochs)
    tokens = round(epoch.tokens * epochs) if epoch.tokens else None
    flops = tokens * per_token if tokens and per_token else None
    return RunLength(measure, steps, epochs, tokens, flops)


def flops_per_token(config: TrainingConfig, context: PlanContext, length: int) -> float | None:
    """Return the FLOPs of a token of a row, or of a packed sequence; None where they are unknown.

    Completions that are generated are of unknown number, so they have none.
    """
    model: ModelFlops | None = context.model_flops
    if model is None or facts_of(config).generates:
        return None
    row = length if config.packing else min(context.row_tokens or length, length)
    return model.per_token(row)


def record_length(config: TrainingConfig, used: RunLength, log: ChangeLog, rope: float) -> None:
    """Record what the measures mean: the steps of the one that rules, and the unused others."""
    if config.data.records_to_sample == AUTO:
        records = records_to_sample(config, rope)
        factor = f", times the RoPE factor {rope:g}" if rope != 1 else ""
        reason = f"auto is {AUTO_RECORDS:,} records{factor}."
        log.record("data.records_to_sample", records, reason)
    if used.measure == "max_steps":
        _record_unused(config, used, log)
        return
    if used.measure == "num_train_epochs" or used.steps is None or used.epochs is None:
        return
    _record_unused(config, used, log)
    is_counted = used.measure in ("trainer.target_tokens", "trainer.target_flops")
    about = "about " if is_counted or config.packing else ""
    epochs = f"{used.epochs:.3g}"
    reason = f"{used.measure} decides the length: {about}{epochs} epochs, {used.steps:,} steps."
    log.record("num_train_epochs", round(used.epochs, 4), reason)


def _record_unused(config: TrainingConfig, used: RunLength, log: ChangeLog) -> None:
    values = {
        "trainer.target_flops": config.trainer.target_flops,
        "trainer.target_tokens": config.trainer.target_tokens,
        "data.records_to_sample": config.data.records_to_sample,
        "trainer.fractional_epochs": config.trainer.fractional_epochs,
    }
    steps = f", {used.steps:,} steps" if used.steps else ""
    for name, value in values.items():
        if value is not None and name != used.measure:
            reason = f"{used.measure} decides the length of the run{steps}."
            log.record(name, None, reason)


def resume_from(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> str | None:
    """Return the folder of the checkpoint to resume from, and record which one it is."""
    name = "trainer.resume_from_checkpoint"
    if config.trainer.resume_from_checkpoint is None:
        return None
    if context.resume_from is None:
        reason = "No earlier run with this model, data and strategy has a checkpoint."
        return log.record(name, None, reason)
    folder = PurePath(context.resume_from)
    reason = f"Training goes on from {folder.name} of the run {folder.parent.parent.name}."
    log.record(name, folder.name, reason)
    return context.resume_from


def checkpoint_step(folder: str | None) -> int:
    """Return the step of a checkpoint by the name of its folder; 0 without one."""
    number = PurePath(folder or "").name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else 0


def reward_steps(config: TrainingConfig, train_rows: int | None) -> int | None:
    """Return the steps of a first stage, which trains the reward model on the pairs; None without.

    Pairs that turn out to be unusable are left out later.
    """
    trainer = config.trainer
    if not facts_of(config).generates or trainer.reward != "model" or trainer.reward_model:
        return None
    if train_rows is None:
        return None
    batches = -(-train_rows // config.per_device_train_batch_size)
    return max(1, -(-batches // effective_accumulation(config))) * trainer.reward_epochs
