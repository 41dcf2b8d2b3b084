"""Callbacks that watch a training: finite losses, early stopping, phases and the loss guard."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from statistics import fmean, median, pstdev
from typing import Any

from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState

from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.errors import WorkerError, not_finite
from modelforge.train.callbacks.loss_phase import LossPhaseTracker, phase_message
from modelforge.train.callbacks.reporter import Logs, TrainingProgress
from modelforge.train.event_log import EventLog
from modelforge.train.trainer.private import (
    accumulated_loss,
    report_skipped_steps,
    set_last_lr,
)

# Reading the loss synchronizes with the GPU, so there it is read at this interval only.
CHECK_INTERVAL_S = 1.0
# Steps in a row that fp16's gradient scaler may skip. It halves its scale of 2**16 at each one, so
# that after 16 the gradients themselves overflow.
MAX_SKIPPED = 20
# Loss guard: values that are kept, and how many are needed to judge one.
WINDOW, MIN_VALUES = 100, 20
SIGMAS, GRADIENT_FACTOR = 3.0, 10.0
# Lower bound of sigma as a share of the mean: without it a nearly constant loss always spikes.
MIN_RELATIVE_SIGMA = 0.02
HALVED_STEPS, TEMPORARY_HALVINGS, MAX_HALVINGS = 50, 2, 5


def attach(trainer: Any, config: TrainingConfig, log: EventLog, progress: TrainingProgress) -> None:
    """Add the configured callbacks; finite losses are always checked."""
    settings = config.evaluation
    trainer.add_callback(FiniteLossCheck(trainer))
    if settings.phase_monitor:
        trainer.add_callback(PhaseMonitor(log))
    if settings.loss_guard:
        trainer.add_callback(LossGuard(log))
    if settings.early_stopping and trainer.args.eval_strategy != "no":
        patience, threshold = settings.early_stopping_patience, settings.early_stopping_threshold
        trainer.add_callback(EarlyStop(log, progress, patience, threshold))


class FiniteLossCheck(TrainerCallback):
    """Fails a run with a NaN or infinite loss or gradient before a checkpoint is saved.

    With fp16 the gradient scaler skips a step with such gradients; too many in a row, or all steps
    of a run, are a failure too, since nothing is learned.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._checked_at = -CHECK_INTERVAL_S
        self._skipped = 0

    def on_train_begin(
        self, args: TrainingArguments, *_rest: Any, optimizer: Any, **_kwargs: Any
    ) -> None:
        """Let every optimizer report skipped steps."""
        if args.fp16:
            report_skipped_steps(optimizer)

    def on_train_end(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Raise if every step of the run was skipped."""
        if self._skipped == state.global_step > 0:
            raise self._overflowed()

    def _overflowed(self) -> WorkerError:
        steps = "step was" if self._skipped == 1 else f"{self._skipped} steps were"
        return not_finite(f"The last {steps} skipped: the gradients are not finite in fp16.")

    def on_step_end(
        self, args: TrainingArguments, _state: Any, control: TrainerControl, **_kwargs: Any
    ) -> None:
        """Log a loss that is not finite at once, and before every save and evaluation."""
        was_skipped = self._trainer.accelerator.optimizer_step_was_skipped
        self._skipped = self._skipped + 1 if was_skipped else 0
        if self._skipped >= MAX_SKIPPED:
            raise self._overflowed()
        if control.should_save or control.should_evaluate:
            control.should_log = True
        now = time.monotonic()
        is_recent = args.device.type != "cpu" and now - self._checked_at < CHECK_INTERVAL_S
        if control.should_log or is_recent:
            return
        self._checked_at = now
        # The reporter raises when the loss is logged.
        if not math.isfinite(float(accumulated_loss(self._trainer))):
            control.should_log = True

    def on_log(
        self, args: TrainingArguments, state: TrainerState, *_rest: Any, logs: Logs, **_kwargs: Any
    ) -> None:
        """Raise if the gradient norm is not finite; with fp16 such steps are skipped."""
        norm = logs.get("grad_norm")
        if norm is not None and not math.isfinite(norm) and not args.fp16:
            raise not_finite(f"The gradients are not finite at step {state.global_step}.")

    def on_evaluate(
        self, _args: Any, state: TrainerState, *_rest: Any, metrics: Logs, **_kwargs: Any
    ) -> None:
        """Raise if the evaluation loss is not finite."""
        loss = metrics.get("eval_loss")
        if loss is not None and not math.isfinite(loss):
            raise not_finite(f"The evaluation loss is {loss} at step {state.global_step}.")


class StatefulCallback(TrainerCallback, ExportableState):
    """A callback whose attributes in `saved` are saved in checkpoints and restored.

    Checkpoints name the state after the class, so subclasses must not be renamed.
    """

    saved: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"args": {}, "attributes": {name: getattr(self, name) for name in self.saved}}

    def on_train_begin(self, args: Any, state: TrainerState, *rest: Any, **kwargs: Any) -> None:
        """Restore the state when the run is resumed."""
        super().on_train_begin(args, state, *rest, **kwargs)
        # The trainer expects every such callback there, also one that the checkpoint lacks.
        held = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        if isinstance(held, dict):
            for name, value in held.get("attributes", {}).items():
                if name in self.saved:
                    setattr(self, name, value)


class PhaseMonitor(StatefulCallback):
    """Notes when the training enters another phase."""

    saved = ("phases",)

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._tracker = LossPhaseTracker()

    @property
    def phases(self) -> dict[str, Any]:
        """The state of the tracker, for checkpoints."""
        return asdict(self._tracker)

    @phases.setter
    def phases(self, data: dict[str, Any]) -> None:
        self._tracker = LossPhaseTracker(**data)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, *_rest: Any, logs: Logs, **_kwargs: Any
    ) -> None:
        """Add a loss. The loss of online methods is not related to progress."""
        loss = logs.get("loss")
        if loss is None or not math.isfinite(loss) or "reward" in logs:
            return
        warm = state.global_step <= args.get_warmup_steps(state.max_steps)
        begun = self._tracker.add(loss, warm=warm)
        if begun is not None:
            phase, trend = begun
            steps = len(self._tracker.losses) * max(1, int(args.logging_steps))
            text = phase_message(phase, trend, steps)
            self._log.note(f"phase-{phase}", f"Step {state.global_step:,}: {text}")


class EarlyStop(StatefulCallback, EarlyStoppingCallback):
    """Ends a training whose evaluations no longer improve, with a note."""

    saved = ("early_stopping_patience_counter",)

    def __init__(
        self, log: EventLog, progress: TrainingProgress, patience: int, threshold: float
    ) -> None:
        super().__init__(patience, threshold)
        self._log, self._progress = log, progress

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, *rest: Any, **kwargs: Any
    ) -> None:
        """Count evaluations without improvement; the last one allowed ends the training."""
        was_stopping = control.should_training_stop
        if state.global_step == 0:
            return  # the baseline
        super().on_evaluate(args, state, control, *rest, **kwargs)
        is_early = state.global_step < state.max_steps
        if control.should_training_stop and not was_stopping and is_early:
            self._progress.stopped_early = True
            count = self.early_stopping_patience
            self._log.note(
                "early-stop",
                f"Stopped early at step {state.global_step:,} of {state.max_steps:,}: the last "
                f"{count} evaluation{'' if count == 1 else 's'} brought no improvement. The best "
                "weights are kept.",
            )


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
        *_rest: Any,
        logs: Logs,
        lr_scheduler: Any,
        optimizer: Any,
        **_kwargs: Any,
    ) -> None:
        """Check the newest loss and gradient norm, and halve the learning rate after a spike."""
        loss, norm = logs.get("loss"), logs.get("grad_norm")
        if loss is None:
            return
        reason = find_spike(self.losses, loss, self.norms, norm)
        # A spike enters the window as its upper bound, so that it does not widen the bound.
        is_judged = len(self.losses) >= MIN_VALUES
        kept = min(loss, _upper_bound(self.losses)) if is_judged else loss
        self.losses = [*self.losses, kept][-WINDOW:]
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
        *_rest: Any,
        lr_scheduler: Any,
        optimizer: Any,
        **_: Any,
    ) -> None:
        """Restore the learning rate when a temporary halving ends."""
        if not self.left:
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
    # With fp16 the gradient scaler skips a step with an infinite norm.
    if norm is not None and math.isfinite(norm) and len(norms) >= MIN_VALUES:
        usual = median(norms)
        if usual > 0 and norm > GRADIENT_FACTOR * usual:
            return f"The gradient norm jumped to {norm / usual:.0f} times its usual value"
    return ""


def _upper_bound(losses: list[float]) -> float:
    mean = fmean(losses)
    return mean + SIGMAS * max(pstdev(losses), MIN_RELATIVE_SIGMA * abs(mean))


def _scale_learning_rate(lr_scheduler: Any, optimizer: Any, factor: float) -> float:
    """Scale the current learning rate and the rest of the schedule; return the new rate.

    The scheduler's own state keeps the factor, so checkpoints restore it.
    """
    inner = getattr(lr_scheduler, "scheduler", lr_scheduler)
    if hasattr(inner, "base_lrs"):  # a schedule by results goes on from the current rate
        inner.base_lrs = [rate * factor for rate in inner.base_lrs]
    for group in optimizer.param_groups:
        group["lr"] *= factor
    set_last_lr(inner, [group["lr"] for group in optimizer.param_groups])
    return float(optimizer.param_groups[0]["lr"])
