"""Finds the batch size: the largest an update can be cut into that fits and is still quicker.

Tried on the longest rows, before the training; nothing that follows is changed by the trying.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from modelforge.config.optimizers import OPTIMIZERS
from modelforge.runs.atomic_files import find_json
from modelforge.runs.event_types import AdjustedEvent
from modelforge.train.job import WorkerContext
from modelforge.train.rng import preserve_rng
from modelforge.train.trainer.checkpointing import PROGRESS
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin, out_of_memory
from modelforge.train.trainer.state import COUNTERS, MEASURES
from modelforge.train.trial_run.sampling import lengths

# A larger batch is taken while each one is so many times as fast as the one before.
WORTH = 1.05
TIMED = 2
LARGEST = 256
# No more are tried after so many seconds.
ENOUGH_S = 20.0
# Of the computer's free memory: what goes beyond ends the process and raises nothing.
USABLE = 0.8
NAME = "batch_size"


@dataclass
class Found:
    """The batch size that was found; a part of a checkpoint, so that it is not looked for again."""

    batch: int
    accumulation: int

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"batch": self.batch, "accumulation": self.accumulation}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Do nothing: it had to be known before the rows were put in order."""


def settle(context: WorkerContext, trainer: Any, checkpoint: Path | None) -> dict[str, Found]:
    """Give the trainer the batch size it is to have; return what belongs to a checkpoint.

    Batch size times accumulation stays as it was. Where the rows of a batch are held against each
    other, and where they are answers still to be written, it stays as it was said.
    """
    asked = context.job.config.memory.auto_batch_size
    if not asked or not isinstance(trainer, OomRecoveryMixin) or trainer.is_whole:
        return {}
    ours: Any = trainer
    args = ours.args
    said = Found(args.per_device_train_batch_size, args.gradient_accumulation_steps)
    known = find_json(checkpoint / PROGRESS) if checkpoint is not None else None
    state = (known or {}).get("parts", {}).get(NAME)
    if state is not None:
        found = Found(**state)
    elif checkpoint is not None:
        return {}
    else:
        found = _found(context, trainer, said)
    args.per_device_train_batch_size = found.batch
    args.gradient_accumulation_steps = found.accumulation
    ours._train_batch_size = args.train_batch_size
    return {NAME: found}


def sizes(said: int, accumulation: int, most: int) -> list[int]:
    """Return the batch sizes that an update can be cut into, from the one that was said on."""
    whole = said * accumulation
    return [size for size in range(said, min(whole, most) + 1) if whole % size == 0]


def smaller(said: int, accumulation: int) -> list[int]:
    """Return those below the one that was said, the largest first."""
    whole = said * accumulation
    return [size for size in range(said - 1, 0, -1) if whole % size == 0]


def _found(context: WorkerContext, trainer: Any, said: Found) -> Found:
    context.log.phase("training", "Finding the batch size")
    trials = _Trials(context, trainer)
    most = min(LARGEST, len(trials.order))
    whole = said.batch * said.accumulation
    best, speed, first = 0, 0.0, 0.0
    began = time.monotonic()
    with trials.traceless():
        for size in sizes(said.batch, said.accumulation, most):
            if best and (time.monotonic() - began > ENOUGH_S or not trials.has_room(size)):
                break
            tried = trials.speed(size)
            if tried is None or tried < WORTH * speed:
                break
            best, speed, first = size, tried, first or tried
        for size in [] if best else smaller(said.batch, said.accumulation):
            if trials.speed(size) is not None:
                best = size
                break
    if not best:
        return said  # one row at a time does not fit either; that is told where it fails
    found = Found(best, whole // best)
    _tell(context, trainer, said, found, speed / first if first else 0.0)
    return found


def _tell(context: WorkerContext, trainer: Any, said: Found, found: Found, times: float) -> None:
    if found == said:
        text = f"The batch size stays {said.batch}: a larger one is no quicker, or does not fit."
        context.log.note("batch-size", text)
        return
    if found.batch > said.batch:
        why = f"{found.batch} rows at once are {times:.2f} times as fast as {said.batch}."
    else:
        why = f"{said.batch} of the longest rows at once do not fit."
    context.log.adjusted(
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
    """Real batches of the longest rows, forward and backward, with nothing learned."""

    def __init__(self, context: WorkerContext, trainer: Any) -> None:
        self._run, self._trainer = context, trainer
        self._rows = trainer.train_dataset
        self._lengths = lengths(self._rows, None)
        self.order = sorted(range(len(self._lengths)), key=self._lengths.__getitem__, reverse=True)
        self._plan = context.job.plan
        self._held = 0.0

    @contextmanager
    def traceless(self) -> Iterator[None]:
        """Let the trainer and chance be as they were; hold the room that the optimizer will take.

        Its state is made with the first update, when the batch size has long been chosen.
        """
        trainer, model = self._trainer, self._trainer.model
        args = trainer.args
        known = {name: vars(trainer)[name] for name in COUNTERS if name in vars(trainer)}
        measured = {name: vars(trainer)[name] for name in MEASURES if name in vars(trainer)}
        copies = {
            name: {mode: dict(found) for mode, found in each.items()}
            for name, each in measured.items()
        }
        before = (args.train_sampling_strategy, trainer._train_batch_size, model.training)
        if args.gradient_checkpointing:
            kwargs = args.gradient_checkpointing_kwargs
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
        room = self._optimizer_room()
        args.train_sampling_strategy = "sequential"
        model.train()
        try:
            with preserve_rng():
                yield
        finally:
            del room
            args.train_sampling_strategy, trainer._train_batch_size, training = before
            model.train(training)
            trainer.train_dataset = self._rows
            vars(trainer).update(known)
            for name, each in measured.items():
                for mode, found in copies[name].items():
                    each[mode].clear()
                    each[mode].update(found)
            self._free()

    def speed(self, size: int) -> float | None:
        """Return the tokens a second of a batch of so many rows; None where it does not fit."""
        rows = self.order[:size]
        try:
            inputs = self._batch(rows)
            seconds = [self._once(inputs) for _ in range(TIMED + 1)]
        except (RuntimeError, MemoryError) as error:
            if out_of_memory(error) is None:
                raise
            self._free()
            return None
        return sum(self._lengths[row] for row in rows) / min(seconds[1:])

    def has_room(self, size: int) -> bool:
        """Say whether a batch may be tried at all; a card says so itself, and nothing is lost."""
        if self._plan.device == "cuda":
            return True
        tokens = sum(self._lengths[row] for row in self.order[:size])
        return self._held * tokens <= USABLE * psutil.virtual_memory().available

    def _batch(self, rows: list[int]) -> Any:
        trainer = self._trainer
        trainer.train_dataset = self._rows.select(rows)
        trainer._train_batch_size = len(rows)
        loader = trainer.get_train_dataloader()
        inputs = next(iter(loader))
        if loader in trainer.accelerator._dataloaders:
            trainer.accelerator._dataloaders.remove(loader)
        return inputs

    def _once(self, inputs: Any) -> float:
        trainer, model = self._trainer, self._trainer.model
        self._run.stop.check()
        began, before = self._now(), _resident()
        with trainer.accelerator.autocast():
            loss = trainer.compute_loss(model, trainer._prepare_inputs(dict(inputs)))
        tokens = inputs["input_ids"].numel() if "input_ids" in inputs else 1
        # What a token makes the forward pass keep: the next size is weighed by it.
        self._held = max(self._held, (_resident() - before) / tokens)
        loss.backward()
        model.zero_grad(set_to_none=True)
        return self._now() - began

    def _now(self) -> float:
        if self._plan.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _optimizer_room(self) -> torch.Tensor | None:
        if self._plan.device != "cuda":
            return None
        each = OPTIMIZERS[self._plan.optim].bytes_per_weight
        trained = sum(p.numel() for p in self._trainer.model.parameters() if p.requires_grad)
        return torch.empty(int(trained * each), dtype=torch.uint8, device="cuda")

    def _free(self) -> None:
        self._trainer.model.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)
