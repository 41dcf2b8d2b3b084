"""Training state between two steps that Transformers and TRL do not save, and RNG states."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modelforge.train.trainer.private import accumulated_loss, set_accumulated_loss, set_last_lr

# Attributes of trainers, with the names under which checkpoints keep them. A trainer has some.
COUNTERS = {
    "_globalstep_last_logged": "_globalstep_last_logged",
    "_total_loss_scalar": "_total_loss_scalar",
    "_total_train_tokens": "_total_train_tokens",
    "_step": "_step",
    "tokens_read": "_read",
    "tokens_generated": "_generated",
}
# What TRL has measured since the last log line, by mode and metric.
METRICS = ("_metrics", "_stored_metrics")


@dataclass(frozen=True)
class TrainerSnapshot:
    """The state at the end of a step, before the first batch of the next one.

    `sampler_rng` is the state of the sampler's own generator, if it has one. `loss` is a scalar
    tensor: the loss summed since the last log line.
    """

    rng: RngState
    sampler_rng: torch.Tensor | None
    counters: dict[str, Any]
    metrics: dict[str, dict[str, list[Any]]]
    loss: torch.Tensor
    tokens: int

    @classmethod
    def of(cls, trainer: Any, sampler_rng: torch.Tensor | None) -> TrainerSnapshot:
        """Return the current state of a trainer."""
        return cls(
            RngState.now(),
            sampler_rng,
            counters(trainer),
            metrics(trainer),
            accumulated_loss(trainer).clone(),
            trainer.state.num_input_tokens_seen,
        )

    def restore(self, trainer: Any) -> None:
        """Put the trainer back into this state. Keeps its own copy of the loss."""
        self.rng.restore()
        restore_counters(trainer, self.counters)
        restore_metrics(trainer, self.metrics)
        set_accumulated_loss(trainer, self.loss.clone())
        trainer.state.num_input_tokens_seen = self.tokens


def counters(trainer: Any) -> dict[str, Any]:
    """Return the trainer's counters by the names that checkpoints use."""
    return {
        stored: getattr(trainer, name)
        for name, stored in COUNTERS.items()
        if hasattr(trainer, name)
    }


def restore_counters(trainer: Any, values: Mapping[str, Any]) -> None:
    """Set the trainer's counters from `counters`; names that are not counters are ignored."""
    for name, stored in COUNTERS.items():
        if stored in values:
            setattr(trainer, name, values[stored])


def metrics(trainer: Any) -> dict[str, dict[str, list[Any]]]:
    """Return a copy of the training metrics since the last log line, by attribute and metric."""
    return {
        name: {key: list(values) for key, values in collected.get("train", {}).items()}
        for name, collected in collected_metrics(trainer).items()
    }


def restore_metrics(trainer: Any, saved: dict[str, dict[str, list[Any]]]) -> None:
    """Set the training metrics since the last log line to those that `metrics` returned."""
    for name, values in saved.items():
        collected = getattr(trainer, name)["train"]
        collected.clear()
        collected.update({key: list(found) for key, found in values.items()})


def collected_metrics(trainer: Any) -> dict[str, dict[str, dict[str, list[Any]]]]:
    """Return the trainer's own metric lists, by attribute, mode and metric."""
    return {name: getattr(trainer, name) for name in METRICS if hasattr(trainer, name)}


def recompute_learning_rate(optimizer: Any, scheduler: Any) -> None:
    """Set the learning rate of the current step after the schedule has become longer."""
    if not isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
        return
    rates = [
        base * factor(scheduler.last_epoch)
        for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    ]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    set_last_lr(scheduler, rates)


@dataclass(frozen=True)
class RngState:
    """The state of the generators: uint8 tensors of torch, None for GPUs that are not used."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    cuda: torch.Tensor | None
    mps: torch.Tensor | None

    @classmethod
    def now(cls) -> RngState:
        """Return the current state."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda, mps)

    def restore(self) -> None:
        """Set all generators to this state."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)
        if self.mps is not None:
            torch.mps.set_rng_state(self.mps)


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Restore the state of all generators afterwards."""
    before = RngState.now()
    try:
        yield
    finally:
        before.restore()
