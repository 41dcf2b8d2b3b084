"""Loss guard: halve the learning rate when the loss or the gradient norm spikes."""

from __future__ import annotations

import math
from statistics import fmean, median, pstdev
from typing import Any

from transformers import TrainerState

from modelforge.train.callbacks.stateful import StatefulCallback
from modelforge.train.event_log import EventLog
from modelforge.train.trainer.private import set_last_lr

WINDOW, MIN_VALUES = 100, 20
SIGMAS, GRADIENT_FACTOR = 3.0, 10.0
# Lower bound of sigma as a share of the mean: without it a nearly constant loss always spikes.
MIN_RELATIVE_SIGMA = 0.02
HALVED_STEPS, TEMPORARY_HALVINGS, MAX_HALVINGS = 50, 2, 5


class LossGuard(StatefulCallback):
    """Halves the learning rate after a spike of the loss or the gradient norm.

    The first two halvings last 50 steps, the next three are permanent.
    """

    saved = ("halvings", "left", "losses", "norms")

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.halvings = self.left = 0
        self.losses: list[float] = []
        self.norms: list[float] = []

    def on_log(
        self,
        _args: Any,
        state: TrainerState,
        _control: Any,
        logs: dict[str, float] | None = None,
        lr_scheduler: Any = None,
        optimizer: Any = None,
        **_kwargs: Any,
    ) -> None:
        """Check the newest loss and gradient norm, and halve the learning rate after a spike."""
        loss, norm = (logs or {}).get("loss"), (logs or {}).get("grad_norm")
        if loss is None or lr_scheduler is None or optimizer is None:
            return
        reason = find_spike(self.losses, loss, self.norms, norm)
        self.losses = [*self.losses, _clipped(self.losses, loss)][-WINDOW:]
        if norm is not None and math.isfinite(norm):
            self.norms = [*self.norms, norm][-WINDOW:]
        if not reason or self.left or self.halvings >= MAX_HALVINGS:
            return
        self.halvings += 1
        # After a permanent halving, too, the loss gets this many steps to settle.
        self.left = HALVED_STEPS
        rate = _scale_learning_rate(lr_scheduler, optimizer, 0.5)
        is_permanent = self.halvings > TEMPORARY_HALVINGS
        duration = "from now on" if is_permanent else f"for {HALVED_STEPS} steps"
        self._log.note(
            "loss-guard",
            f"Step {state.global_step:,}: {reason}. The learning rate is halved {duration}, to "
            f"{rate:.2g}.",
        )

    def on_step_end(
        self,
        _args: Any,
        state: TrainerState,
        _control: Any,
        lr_scheduler: Any = None,
        optimizer: Any = None,
        **_kwargs: Any,
    ) -> None:
        """Restore the learning rate when a temporary halving ends."""
        if not self.left or lr_scheduler is None:
            return
        self.left -= 1
        if self.left == 0 and self.halvings <= TEMPORARY_HALVINGS:
            rate = _scale_learning_rate(lr_scheduler, optimizer, 2.0)
            text = f"The learning rate is as planned again, {rate:.2g}."
            self._log.note("loss-guard", f"Step {state.global_step:,}: {text}")


def find_spike(losses: list[float], loss: float, norms: list[float], norm: float | None) -> str:
    """Return a sentence on the value that spikes, or "" for none or with too few values."""
    if len(losses) >= MIN_VALUES and loss > _upper_bound(losses):
        return f"The loss jumped to {loss:.2f} from about {fmean(losses):.2f}"
    if norm is not None and len(norms) >= MIN_VALUES:
        usual = median(norms)
        if usual > 0 and norm > GRADIENT_FACTOR * usual:
            return f"The gradient norm jumped to {norm / usual:.0f} times its usual value"
    return ""


def _upper_bound(losses: list[float]) -> float:
    mean = fmean(losses)
    return mean + SIGMAS * max(pstdev(losses), MIN_RELATIVE_SIGMA * abs(mean))


def _clipped(losses: list[float], loss: float) -> float:
    """Return the loss as it enters the window: a spike must not widen the bound."""
    return loss if len(losses) < MIN_VALUES else min(loss, _upper_bound(losses))


def _scale_learning_rate(lr_scheduler: Any, optimizer: Any, factor: float) -> float:
    """Scale the current learning rate and the rest of the schedule; return the new rate.

    The scheduler's own state keeps the factor, so checkpoints restore it.
    """
    inner = getattr(lr_scheduler, "scheduler", lr_scheduler)
    inner.base_lrs = [rate * factor for rate in inner.base_lrs]
    for group in optimizer.param_groups:
        group["lr"] *= factor
    set_last_lr(inner, [group["lr"] for group in optimizer.param_groups])
    return float(optimizer.param_groups[0]["lr"])
