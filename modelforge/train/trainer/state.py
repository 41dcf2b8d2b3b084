"""What a trainer knows between two updates and Transformers does not keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from modelforge.train.rng import RngState

# What Transformers and TRL count in the trainer and lose with it; some trainers have some of them.
COUNTERS = (
    *("_globalstep_last_logged", "_total_loss_scalar", "_total_train_tokens", "_step"),
    *("_read", "_generated"),
)
# What TRL has measured since the last log line.
MEASURES = ("_metrics", "_stored_metrics")


@dataclass(frozen=True)
class TrainerSnapshot:
    """What was known at the end of an update, before the first batch of the next.

    `order` is how the chance of the rows' order stood, where it has one of its own.
    """

    chance: RngState
    order: torch.Tensor | None
    counters: dict[str, Any]
    measures: dict[str, dict[str, list[Any]]]
    loss: torch.Tensor
    tokens: int

    @classmethod
    def of(cls, trainer: Any, order: torch.Tensor | None) -> TrainerSnapshot:
        """Return the moment that is now."""
        return cls(
            RngState.now(),
            order,
            counters(trainer),
            measures(trainer),
            trainer._tr_loss.clone(),
            trainer.state.num_input_tokens_seen,
        )

    def restore(self, trainer: Any) -> None:
        """Let the trainer know no more than it knew then."""
        self.chance.restore()
        vars(trainer).update(self.counters)
        for name, found in self.measures.items():
            measured = vars(trainer)[name]["train"]
            measured.clear()
            measured.update(found)
        trainer._tr_loss = self.loss
        trainer.state.num_input_tokens_seen = self.tokens


def counters(trainer: Any) -> dict[str, Any]:
    """Return what the trainer has counted."""
    return {name: vars(trainer)[name] for name in COUNTERS if name in vars(trainer)}


def measures(trainer: Any) -> dict[str, dict[str, list[Any]]]:
    """Return what the trainer has measured since its last log line."""
    found = {name: vars(trainer)[name] for name in MEASURES if name in vars(trainer)}
    return {
        name: {key: list(values) for key, values in each.get("train", {}).items()}
        for name, each in found.items()
    }


def recompute_learning_rate(optimizer: Any, scheduler: Any) -> None:
    """Set the rate that the schedule has at this update since it has become longer."""
    if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
        bases, shares = scheduler.base_lrs, scheduler.lr_lambdas
        rates = [
            base * share(scheduler.last_epoch) for base, share in zip(bases, shares, strict=True)
        ]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates
