"""Momentum and weight decay of Muon over a training from nothing, as in nanochat."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerState

# Momentum rises linearly from the first value to that of the settings in so many steps.
FIRST_MOMENTUM = 0.85
MOMENTUM_STEPS = 300


class MuonSchedule(TrainerCallback):
    """Sets momentum and weight decay of the matrices before each step.

    Both depend on the number of the step alone, so that a resumed training has the same.

    Args:
        momentum: Momentum after the warm-up.
        weight_decay: Weight decay of the first step; it falls linearly to zero.
    """

    def __init__(self, momentum: float, weight_decay: float) -> None:
        self._momentum, self._weight_decay = momentum, weight_decay

    def on_step_begin(
        self, _args: Any, state: TrainerState, *_rest: Any, optimizer: Any, **_kwargs: Any
    ) -> None:
        """Set the values of the step that begins."""
        step = state.global_step
        for group in optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = momentum_at(step, self._momentum)
                group["weight_decay"] = decay_at(step, state.max_steps, self._weight_decay)


def momentum_at(step: int, final: float) -> float:
    """Return the momentum of a step, counted from 0."""
    share = min(1.0, step / MOMENTUM_STEPS)
    return (1 - share) * min(FIRST_MOMENTUM, final) + share * final


def decay_at(step: int, steps: int, first: float) -> float:
    """Return the weight decay of a step, counted from 0, of a training of `steps`."""
    return first * max(0.0, 1 - step / steps)
