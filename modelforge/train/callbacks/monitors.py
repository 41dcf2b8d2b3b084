"""Callbacks that watch a training: finite losses, early stopping, phases and the loss guard."""

from __future__ import annotations

import math
import time
from typing import Any

from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.train.callbacks.loss_guard import LossGuard
from modelforge.train.callbacks.loss_phase import LossPhaseTracker, phase_message
from modelforge.train.callbacks.reporter import TrainingProgress
from modelforge.train.callbacks.stateful import StatefulCallback
from modelforge.train.event_log import EventLog
from modelforge.train.trainer.private import accumulated_loss

# Reading the loss synchronizes with the GPU, so there it is read at this interval only.
CHECK_INTERVAL_S = 1.0


def attach(trainer: Any, config: TrainingConfig, log: EventLog, progress: TrainingProgress) -> None:
    """Add the configured callbacks; finite losses are always checked."""
    settings = config.evaluation
    trainer.add_callback(FiniteLossCheck(trainer))
    if settings.phase_monitor:
        trainer.add_callback(PhaseMonitor(log))
    if settings.loss_guard:
        trainer.add_callback(LossGuard(log))
    if settings.early_stopping and trainer.args.eval_strategy != "no":
        early_stop = EarlyStop(settings.early_stopping_patience, settings.early_stopping_threshold)
        early_stop.report_to(log, progress)
        trainer.add_callback(early_stop)


class FiniteLossCheck(TrainerCallback):
    """Fails a run with a NaN or infinite loss or gradient before a checkpoint is saved."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._checked_at = -CHECK_INTERVAL_S

    def on_step_end(
        self, args: TrainingArguments, _state: Any, control: TrainerControl, **_kwargs: Any
    ) -> None:
        """Log a loss that is not finite at once, and before every save and evaluation."""
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
        self,
        args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_kwargs: Any,
    ) -> None:
        """Raise if the gradient norm is not finite; with fp16 such steps are skipped."""
        norm = (logs or {}).get("grad_norm")
        if norm is not None and not math.isfinite(norm) and not args.fp16:
            what = f"The gradients are not finite at step {state.global_step}."
            raise WorkerError("loss-not-finite", not_finite(what))

    def on_evaluate(
        self,
        _args: Any,
        state: TrainerState,
        _control: Any,
        metrics: dict[str, float] | None = None,
        **_kwargs: Any,
    ) -> None:
        """Raise if the evaluation loss is not finite."""
        loss = (metrics or {}).get("eval_loss")
        if loss is not None and not math.isfinite(loss):
            what = f"The evaluation loss is {loss} at step {state.global_step}."
            raise WorkerError("loss-not-finite", not_finite(what))


class PhaseMonitor(StatefulCallback):
    """Notes when the training enters another phase."""

    saved = ("phases",)

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._tracker = LossPhaseTracker()

    @property
    def phases(self) -> dict[str, Any]:
        """The state of the tracker, for checkpoints."""
        return self._tracker.as_dict()

    @phases.setter
    def phases(self, data: dict[str, Any]) -> None:
        self._tracker = LossPhaseTracker.from_dict(data)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_kwargs: Any,
    ) -> None:
        """Add a loss. The loss of online methods is not related to progress."""
        loss = (logs or {}).get("loss")
        if loss is None or not math.isfinite(loss) or "reward" in (logs or {}):
            return
        warm = state.global_step <= args.get_warmup_steps(state.max_steps)
        begun = self._tracker.add(loss, warm=warm)
        if begun is not None:
            phase, trend = begun
            steps = len(self._tracker.losses) * max(1, int(args.logging_steps))
            text = phase_message(phase, trend, steps)
            self._log.note(f"phase-{phase}", f"Step {state.global_step:,}: {text}")


class EarlyStop(EarlyStoppingCallback):
    """Ends a training whose evaluations no longer improve, with a note.

    Checkpoints name its state after the class, so it must not be renamed.
    """

    def report_to(self, log: EventLog, progress: TrainingProgress) -> None:
        """Set where to report. Not in the constructor, which Transformers calls on resume."""
        self._log, self._progress = log, progress

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the count of evaluations from a checkpoint."""
        super().on_train_begin(args, state, control, **kwargs)
        held = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        if isinstance(held, dict):
            counted = held.get("attributes", {}).get("early_stopping_patience_counter", 0)
            self.early_stopping_patience_counter = int(counted)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Count evaluations without improvement; the last one allowed ends the training."""
        was_stopping = control.should_training_stop
        if state.global_step == 0:
            return  # the baseline
        super().on_evaluate(args, state, control, metrics or {}, **kwargs)
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


def not_finite(what: str) -> Problem:
    """Return the problem of a loss or gradient that is not finite."""
    remedy = "Lower the learning rate, or train in bf16 or fp32 instead of fp16."
    return Problem("training", what, remedy)
