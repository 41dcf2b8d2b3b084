"""The loss guard: halves the learning rate when the loss or the gradients leap."""

from __future__ import annotations

import math
from statistics import fmean, median, pstdev
from typing import Any

from transformers import TrainerState

from modelforge.train.callbacks.stateful import StatefulCallback
from modelforge.train.event_log import EventLog
from modelforge.train.trainer.private import set_last_lr

WINDOW, FEWEST = 100, 20
SIGMAS, GRADIENT_TIMES = 3.0, 10.0
# A loss that hardly varies would call every breath a leap.
LEAST_SIGMA = 0.02
HALVED_FOR, PERMANENT_AFTER, MOST_HALVINGS = 50, 2, 5


class LossGuard(StatefulCallback):
    """Halves the learning rate for a while when the loss or the gradients leap.

    The first two halvings end after 50 updates, the next three stay; there are no more than five.
    """

    kept = ("halvings", "left", "losses", "norms")

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
        **_more: Any,
    ) -> None:
        """Look at one more loss and gradient norm, and halve the rate if one has leapt."""
        told = logs or {}
        loss, norm = told.get("loss"), told.get("grad_norm")
        if loss is None or lr_scheduler is None or optimizer is None:
            return
        why = leap(self.losses, loss, self.norms, norm)
        self.losses = [*self.losses, _calmed(self.losses, loss)][-WINDOW:]
        if norm is not None and math.isfinite(norm):
            self.norms = [*self.norms, norm][-WINDOW:]
        if not why or self.left or self.halvings >= MOST_HALVINGS:
            return
        self.halvings += 1
        # For a while after a halving that stays, the loss may settle.
        self.left = HALVED_FOR
        rate = _scale(lr_scheduler, optimizer, 0.5)
        stays = self.halvings > PERMANENT_AFTER
        until = "from now on" if stays else f"for {HALVED_FOR} updates"
        self._log.note(
            "loss-guard",
            f"Update {state.global_step:,}: {why}. The learning rate is halved {until}, to "
            f"{rate:.2g}.",
        )

    def on_step_end(
        self,
        _args: Any,
        state: TrainerState,
        _control: Any,
        lr_scheduler: Any = None,
        optimizer: Any = None,
        **_more: Any,
    ) -> None:
        """Count the updates with a halved rate, and give the rate back after the last."""
        if not self.left or lr_scheduler is None:
            return
        self.left -= 1
        if self.left == 0 and self.halvings <= PERMANENT_AFTER:
            rate = _scale(lr_scheduler, optimizer, 2.0)
            text = f"The learning rate is as planned again, {rate:.2g}."
            self._log.note("loss-guard", f"Update {state.global_step:,}: {text}")


def leap(losses: list[float], loss: float, norms: list[float], norm: float | None) -> str:
    """Say what has leapt, the loss or the gradients; nothing while too little is known."""
    if len(losses) >= FEWEST:
        mean = fmean(losses)
        if loss > mean + SIGMAS * max(pstdev(losses), LEAST_SIGMA * abs(mean)):
            return f"The loss leapt to {loss:.2f} from about {mean:.2f}"
    if norm is not None and len(norms) >= FEWEST:
        usual = median(norms)
        if usual > 0 and norm > GRADIENT_TIMES * usual:
            return f"The gradients leapt to {norm / usual:.0f} times their usual size"
    return ""


def _calmed(losses: list[float], loss: float) -> float:
    """Return a loss as it enters the window: a leap must not widen what counts as one."""
    if len(losses) < FEWEST:
        return loss
    mean = fmean(losses)
    return min(loss, mean + SIGMAS * max(pstdev(losses), LEAST_SIGMA * abs(mean)))


def _scale(lr_scheduler: Any, optimizer: Any, times: float) -> float:
    """Scale the rate now and in all that the schedule still has to say; return it.

    The schedule's own state keeps it, so that it comes back with a checkpoint.
    """
    inner = getattr(lr_scheduler, "scheduler", lr_scheduler)
    inner.base_lrs = [rate * times for rate in inner.base_lrs]
    for group in optimizer.param_groups:
        group["lr"] *= times
    set_last_lr(inner, [group["lr"] for group in optimizer.param_groups])
    return float(optimizer.param_groups[0]["lr"])
