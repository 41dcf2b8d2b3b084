"""Automatic batch size: the largest batch that fits and is still faster, found before training.

Batch size times gradient accumulation stays the same. Trial batches are made of the longest rows,
and the state of the trainer is restored afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate.utils.memory import clear_device_cache

from modelforge.config.optimizers import OPTIMIZERS
from modelforge.runs.atomic_files import find_json
from modelforge.runs.event_types import AdjustedEvent
from modelforge.train.callbacks.system_stats import synchronized_time
from modelforge.train.job import WorkerContext
from modelforge.train.optimizer.groups import trained_sizes
from modelforge.train.trainer.checkpointing import PROGRESS
from modelforge.train.trainer.offload import activations_offloaded, forget_offloaded
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin, out_of_memory
from modelforge.train.trainer.private import (
    batch_size_restored,
    first_batch,
    prepare_inputs,
    set_batch_size,
)
from modelforge.train.trainer.state import (
    counters,
    metrics,
    preserve_rng,
    restore_counters,
    restore_metrics,
)
from modelforge.train.trial_run.sampling import row_lengths

# A larger batch has to be faster by this factor.
MIN_SPEEDUP = 1.05
TIMED_STEPS = 2
MAX_BATCH = 256
# No further sizes are tried after this time, in seconds.
TIME_LIMIT_S = 20.0
# Share of the free RAM that a trial may use: beyond it the process is killed without an error.
USABLE_RAM = 0.8
NAME = "batch_size"


@dataclass
class BatchSize:
    """Rows per batch and batches per step; saved in checkpoints, so a resumed run keeps them."""

    batch: int
    accumulation: int

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return asdict(self)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Do nothing: `set_best_batch_size` reads it before the rows are shuffled."""


def set_best_batch_size(
    context: WorkerContext, trainer: Any, checkpoint: Path | None
) -> dict[str, BatchSize]:
    """Set the batch size of the trainer; return the objects that checkpoints save, by name.

    It stays as configured where the loss compares the rows of a batch, and for online methods.
    """
    config = context.job.config
    # With differential privacy each row passes the model alone.
    is_alone = not config.privacy.enabled and context.job.plan.ranks == 1
    is_enabled = config.memory.auto_batch_size and is_alone
    if not is_enabled or not isinstance(trainer, OomRecoveryMixin) or trainer.is_indivisible:
        return {}
    args = trainer.args
    configured = BatchSize(args.per_device_train_batch_size, args.gradient_accumulation_steps)
    progress = find_json(checkpoint / PROGRESS) if checkpoint is not None else None
    state = (progress or {}).get("parts", {}).get(NAME)
    if state is not None:
        best = BatchSize(**state)
    elif checkpoint is not None:
        return {}
    else:
        best = _find(context, trainer, configured)
    args.per_device_train_batch_size = best.batch
    args.gradient_accumulation_steps = best.accumulation
    set_batch_size(trainer, args.train_batch_size)
    return {NAME: best}


def larger_sizes(batch: int, accumulation: int, limit: int) -> list[int]:
    """Return the batch sizes from `batch` to `limit` that divide the rows of a step."""
    rows = batch * accumulation
    return [size for size in range(batch, min(rows, limit) + 1) if rows % size == 0]


def smaller_sizes(batch: int, accumulation: int) -> list[int]:
    """Return the batch sizes below `batch` that divide the rows of a step, largest first."""
    rows = batch * accumulation
    return [size for size in range(batch - 1, 0, -1) if rows % size == 0]


def _find(context: WorkerContext, trainer: Any, configured: BatchSize) -> BatchSize:
    context.log.phase("training", "Finding the batch size")
    trials = _Trials(context, trainer)
    with trials.state_restored():
        best, speedup = _fastest(trials, configured)
        if not best:
            sizes = smaller_sizes(configured.batch, configured.accumulation)
            best = next((size for size in sizes if trials.tokens_per_s(size) is not None), 0)
    if not best:
        return configured  # a single row does not fit either; the training reports it
    found = BatchSize(best, configured.batch * configured.accumulation // best)
    _report(context, trainer, configured, found, speedup)
    return found


def _fastest(trials: _Trials, configured: BatchSize) -> tuple[int, float]:
    """Return the fastest batch size that is not smaller, and its speedup; 0 where none fits."""
    best, speed, first = 0, 0.0, 0.0
    began = time.monotonic()
    limit = min(MAX_BATCH, len(trials.order))
    for size in larger_sizes(configured.batch, configured.accumulation, limit):
        if best and (time.monotonic() - began > TIME_LIMIT_S or not trials.may_fit(size)):
            break
        tried = trials.tokens_per_s(size)
        if tried is None or tried < MIN_SPEEDUP * speed:
            break
        best, speed, first = size, tried, first or tried
    return best, speed / first if first else 0.0


def _report(
    context: WorkerContext, trainer: Any, configured: BatchSize, found: BatchSize, speedup: float
) -> None:
    if found == configured:
        text = (
            f"The batch size stays {configured.batch}: a larger one is not faster or does not fit."
        )
        context.log.note("batch-size", text)
        return
    if found.batch > configured.batch:
        why = f"Batch size {found.batch} is {speedup:.2f} times as fast as {configured.batch}."
    else:
        why = f"A batch of the {configured.batch} longest rows does not fit in memory."
    context.log.write(
        AdjustedEvent(
            step=trainer.state.global_step + 1,
            micro_batch=found.batch,
            accumulation=found.accumulation,
            gradient_checkpointing=bool(trainer.args.gradient_checkpointing),
            check_batch=trainer.args.per_device_eval_batch_size,
            why=why,
        )
    )


class _Trials:
    """Forward and backward passes on batches of the longest rows, without optimizer steps.

    `order` holds the rows, longest first.
    """

    def __init__(self, context: WorkerContext, trainer: Any) -> None:
        self._context, self._trainer = context, trainer
        self._rows = trainer.train_dataset
        self._lengths = row_lengths(self._rows, None)
        self.order = sorted(range(len(self._lengths)), key=self._lengths.__getitem__, reverse=True)
        self._plan = context.job.plan
        self._bytes_per_token = 0.0
        self._is_short = False

    @contextmanager
    def state_restored(self) -> Iterator[None]:
        """Restore trainer and RNG state afterwards; meanwhile hold the optimizer's memory.

        The optimizer allocates its state in the first step, after the batch size was chosen.
        """
        trainer, model = self._trainer, self._trainer.model
        args = trainer.args
        known, collected = counters(trainer), metrics(trainer)
        sampling, was_training = args.train_sampling_strategy, model.training
        if args.gradient_checkpointing:
            kwargs = args.gradient_checkpointing_kwargs
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
        reserved = self._optimizer_memory()
        args.train_sampling_strategy = "sequential"
        model.train()
        try:
            with preserve_rng(), batch_size_restored(trainer):
                yield
        finally:
            del reserved
            args.train_sampling_strategy = sampling
            model.train(was_training)
            trainer.train_dataset = self._rows
            restore_counters(trainer, known)
            restore_metrics(trainer, collected)
            self._free_memory()

    def tokens_per_s(self, size: int) -> float | None:
        """Return the speed of a batch of `size` rows; None where it does not fit."""
        if self._is_short:
            return None
        rows = self.order[:size]
        try:
            self._trainer.train_dataset = self._rows.select(rows)
            set_batch_size(self._trainer, len(rows))
            batch = first_batch(self._trainer)
            seconds = [self._step_seconds(batch) for _ in range(TIMED_STEPS + 1)]
        except (RuntimeError, MemoryError) as error:
            if out_of_memory(error) is None:
                raise
            forget_offloaded(self._trainer)
            self._free_memory()
            return None
        return sum(self._lengths[row] for row in rows) / min(seconds[1:])

    def may_fit(self, size: int) -> bool:
        """Return whether a batch may be tried; a GPU raises an error, so there it always may."""
        if self._plan.device == "cuda":
            return True
        tokens = sum(self._lengths[row] for row in self.order[:size])
        return self._bytes_per_token * tokens <= USABLE_RAM * psutil.virtual_memory().available

    def _step_seconds(self, batch: dict[str, Any]) -> float:
        trainer, model = self._trainer, self._trainer.model
        self._context.stop.check()
        began, before = synchronized_time(self._plan.device), psutil.Process().memory_info().rss
        with activations_offloaded(trainer), trainer.accelerator.autocast():
            loss = trainer.compute_loss(model, prepare_inputs(trainer, dict(batch)))
        tokens = batch["input_ids"].numel() if "input_ids" in batch else 1
        # What the forward pass keeps per token predicts whether the next size fits.
        kept = (psutil.Process().memory_info().rss - before) / tokens
        self._bytes_per_token = max(self._bytes_per_token, kept)
        loss.backward()
        model.zero_grad(set_to_none=True)
        return synchronized_time(self._plan.device) - began

    def _optimizer_memory(self) -> torch.Tensor | None:
        """Return a tensor of the size of the optimizer's state on the GPU.

        A paged optimizer keeps it in managed memory, which may lie in the computer's. Where it does
        not fit, no size is tried, and the training recovers or reports it.
        """
        optim = self._plan.optim
        if self._plan.device != "cuda" or optim.startswith("paged_"):
            return None
        sizes = trained_sizes(self._trainer.model)
        size = int(OPTIMIZERS[optim].state_bytes(sizes, self._plan.trained_bytes))
        try:
            return torch.empty(size, dtype=torch.uint8, device="cuda")
        except RuntimeError as error:
            if out_of_memory(error) is None:
                raise
            self._is_short = True
            return None

    def _free_memory(self) -> None:
        self._trainer.model.zero_grad(set_to_none=True)
        clear_device_cache(garbage_collection=True)
