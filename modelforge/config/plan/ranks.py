"""The part of the plan about several GPUs: ranks, what they divide, and the batches of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelforge.config.optimizers import OPTIMIZERS
from modelforge.config.plan.context import ChangeLog, PlanContext
from modelforge.config.schema.config import TrainingConfig
from modelforge.config.schema.runtime import Sharding

# Optimizers of torch, whose state has the shape of the weights.
DIVISIBLE_OPTIMIZERS = frozenset({"adamw_torch", "adamw_torch_fused", "sgd", "adagrad"})


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, one per GPU.

    Attributes:
        count: Processes.
        sharding: What they divide; none for one process.
        sequence: Processes that share the tokens of one row.
    """

    count: int = 1
    sharding: Sharding = "none"
    sequence: int = 1

    @property
    def replicas(self) -> int:
        """Processes, or groups that share a row, which read different rows."""
        return max(1, self.count // self.sequence)


def plan_ranks(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> Ranks:
    """Return the processes of the run, and record what differs from the settings."""
    hardware = config.hardware
    count = _count(config, context, log)
    if count == 1:
        if hardware.sharding != "none":
            log.record("hardware.sharding", "none", "One GPU has nothing to divide.")
        if hardware.sequence_parallel_size > 1:
            log.record("hardware.sequence_parallel_size", 1, "One GPU has every token of a row.")
        return Ranks()
    _without_effect(config, log)
    if hardware.sharding != "none":
        return Ranks(count, hardware.sharding, hardware.sequence_parallel_size)
    reason = "Each GPU holds the whole model, and their gradients are averaged."
    log.record("hardware.sharding", "ddp", reason)
    return Ranks(count, "ddp", hardware.sequence_parallel_size)


def _count(config: TrainingConfig, context: PlanContext, log: ChangeLog) -> int:
    configured = config.hardware.gpus
    if config.hardware.engine != "inprocess":
        return 1  # the engine starts its own processes
    if context.device == "mps":
        if configured == 1:
            return 1
        return log.record("hardware.gpus", 1, "An Apple computer has one GPU.")
    if configured:
        return configured
    count = max(1, context.gpus) if context.device == "cuda" else 1
    return log.record("hardware.gpus", count, "0 stands for all GPUs of this computer.")


def rank_fields(
    config: TrainingConfig, batches: int, ranks: Ranks, log: ChangeLog
) -> dict[str, Any]:
    """Return the fields of the plan; `batches` are those of a step, of all GPUs."""
    batch, accumulation = _shared(config, batches, ranks, log)
    return {
        "ranks": ranks.count,
        "sharding": ranks.sharding,
        "sequence_parallel_size": ranks.sequence,
        "rank_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
    }


def _shared(
    config: TrainingConfig, batches: int, ranks: Ranks, log: ChangeLog
) -> tuple[int | None, int]:
    """Return the rows of a batch on each GPU, None for as many as set, and its batches of a step.

    Batches are made smaller where that is needed for a step with the same rows. Rows that cannot be
    shared at all are refused by the check.
    """
    size, count = config.per_device_train_batch_size, ranks.replicas
    rows = size * batches
    if count == 1:
        return None, batches
    batch = next((n for n in range(size, 0, -1) if rows % (n * count) == 0), size)
    used = -(-rows // (batch * count))
    same = f"the same {rows} rows in the same order as on one GPU."
    if batch < size:
        reason = f"{count} GPUs share the {batches} batches of a step in smaller ones: {same}"
        log.record("per_device_train_batch_size", batch, reason)
    reason = f"{count} GPUs share the {rows} rows of a step, {used} x {batch} each: {same}"
    if used * batch * count != rows:
        reason = f"{count} GPUs cannot share the {rows} rows of a step equally."
    if used != config.gradient_accumulation_steps:
        log.record("gradient_accumulation_steps", used, reason)
    return batch if batch < size else None, used


def _without_effect(config: TrainingConfig, log: ChangeLog) -> None:
    """Record the settings that work on one GPU alone."""
    off = {
        "memory.autopilot": "A full memory is recovered from on one GPU alone.",
        "memory.auto_batch_size": "Batch sizes are tried out on one GPU alone.",
        "evaluation.row_losses": "The losses of rows are kept on one GPU alone.",
    }
    for where, reason in off.items():
        group, _, name = where.partition(".")
        if getattr(getattr(config, group), name):
            log.record(where, False, reason)


def sharded_optim(optim: str, ranks: Ranks, log: ChangeLog) -> str:
    """Return the optimizer, without paging and kernels of its own where its state is divided."""
    usable = DIVISIBLE_OPTIMIZERS
    info = OPTIMIZERS[optim]
    replacement = info.unpaged or info.without_cuda
    if ranks.sharding != "fsdp2" or optim in usable or replacement not in usable:
        return optim
    reason = "The state of an optimizer that pages cannot be divided; the result is the same."
    return log.record("optim", replacement, reason)
