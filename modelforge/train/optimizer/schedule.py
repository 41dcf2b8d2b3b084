"""What a run's schedule needs beyond Transformers: shares of the run, a cooldown, several rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import SchedulerType

from modelforge.config.optimizers import COOLED_SCHEDULES, RESULT_SCHEDULES

Factor = Callable[[int], float]


def extend_schedule(trainer: Any) -> None:
    """Let `trainer` make its schedule with the arguments of the plan.

    `num_decay_steps` below 1 is a share of all steps. For linear and cosine it is the length of a
    cooldown. Bounds of a schedule by results hold for each group of weights in proportion.
    """
    create = trainer.create_scheduler

    def create_scheduler(num_training_steps: int, *args: Any, **kwargs: Any) -> Any:
        name = SchedulerType(trainer.args.lr_scheduler_type).value
        planned = trainer.args.lr_scheduler_kwargs
        arguments = dict(planned or {})
        decay = arguments.get("num_decay_steps")
        if decay is not None and decay < 1:
            arguments["num_decay_steps"] = round(decay * num_training_steps)
        cooldown = arguments if name in COOLED_SCHEDULES and decay is not None else None
        if name in RESULT_SCHEDULES:
            arguments |= _bounds_of_groups(trainer, arguments)
        trainer.args.lr_scheduler_kwargs = {} if cooldown is not None else arguments
        try:
            scheduler = create(num_training_steps, *args, **kwargs)
        finally:
            trainer.args.lr_scheduler_kwargs = planned
        if cooldown is not None:
            warmup = trainer.args.get_warmup_steps(num_training_steps)
            add_cooldown(scheduler, warmup, num_training_steps, **cooldown)
        return scheduler

    trainer.create_scheduler = create_scheduler


def add_cooldown(
    scheduler: LambdaLR,
    warmup: int,
    total: int,
    *,
    num_decay_steps: int,
    decay_type: str = "linear",
    min_lr_ratio: float = 0.0,
) -> None:
    """Let the rate decay in the last steps from where it is then to a share of the full rate.

    Args:
        scheduler: A schedule whose factors of the rate fall from 1 to 0 after the warm-up.
        warmup: Steps of the warm-up.
        total: Steps of the run.
        num_decay_steps: Steps of the cooldown.
        decay_type: linear, cosine or 1-sqrt.
        min_lr_ratio: Share of the full rate at the end, also of the schedule before.
    """
    begin = total - num_decay_steps
    if num_decay_steps <= 0:
        return

    def cooled(factor: Factor) -> Factor:
        def before(step: int) -> float:
            if step < warmup:
                return factor(step)
            return min_lr_ratio + (1 - min_lr_ratio) * factor(step)

        def at(step: int) -> float:
            if step < begin:
                return before(step)
            left = _left(min(1.0, (step - begin) / num_decay_steps), decay_type)
            return min_lr_ratio + (before(begin) - min_lr_ratio) * left

        return at

    scheduler.lr_lambdas = [cooled(factor) for factor in scheduler.lr_lambdas]


def _left(progress: float, shape: str) -> float:
    """Return the share of a decay that is left, from 1 to 0."""
    if shape == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - math.sqrt(progress) if shape == "1-sqrt" else 1 - progress


def _bounds_of_groups(trainer: Any, arguments: dict[str, Any]) -> dict[str, list[float]]:
    """Return `min_lr` and `max_lr` for each group, as the same shares of its own rate.

    Nothing where all groups have the rate of the run.
    """
    full = trainer.args.learning_rate
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    if set(rates) == {full}:
        return {}
    return {
        name: [arguments[name] / full * rate for rate in rates]
        for name in ("min_lr", "max_lr")
        if name in arguments
    }
