"""What watches a training: numbers that are none, a stop in time, phases in plain words."""

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
from modelforge.train.callbacks.loss_phase import LossPhaseTracker, in_words
from modelforge.train.callbacks.reporter import TrainingProgress
from modelforge.train.callbacks.stateful import StatefulCallback
from modelforge.train.event_log import EventLog
from modelforge.train.trainer.private import accumulated_loss

# On a card a look at the loss waits for all that was asked of it, so it is taken now and then.
LOOK_S = 1.0


def attach(trainer: Any, config: TrainingConfig, log: EventLog, course: TrainingProgress) -> None:
    """Add to a trainer what the settings ask to watch; broken numbers are always watched."""
    asked = config.evaluation
    trainer.add_callback(FiniteLossCheck(trainer))
    if asked.phase_monitor:
        trainer.add_callback(PhaseMonitor(log))
    if asked.loss_guard:
        trainer.add_callback(LossGuard(log))
    if asked.early_stopping and trainer.args.eval_strategy != "no":
        watch = EarlyStop(asked.early_stopping_patience, asked.early_stopping_threshold)
        watch.tell_to(log, course)
        trainer.add_callback(watch)


class FiniteLossCheck(TrainerCallback):
    """Ends a run whose loss or gradients are no numbers, before a checkpoint is made of them."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._looked = -LOOK_S

    def on_step_end(
        self, args: TrainingArguments, _state: Any, control: TrainerControl, **_more: Any
    ) -> None:
        """Have the loss told at once where it is no number, and before every save and check."""
        if control.should_save or control.should_evaluate:
            control.should_log = True
        now = time.monotonic()
        if control.should_log or (args.device.type != "cpu" and now - self._looked < LOOK_S):
            return
        self._looked = now
        # What has added up since the last report; the reporter raises when it is told.
        if not math.isfinite(float(accumulated_loss(self._trainer))):
            control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_more: Any,
    ) -> None:
        """Raise when the gradients are no numbers; in fp16 an update with such is left out."""
        norm = (logs or {}).get("grad_norm")
        if norm is not None and not math.isfinite(norm) and not args.fp16:
            what = f"The gradients became no number at update {state.global_step}"
            raise WorkerError("loss-not-finite", _lower(f"{what}, so nothing more can be learned."))

    def on_evaluate(
        self,
        _args: Any,
        state: TrainerState,
        _control: Any,
        metrics: dict[str, float] | None = None,
        **_more: Any,
    ) -> None:
        """Raise when the loss on held-out rows is no number."""
        loss = (metrics or {}).get("eval_loss")
        if loss is not None and not math.isfinite(loss):
            what = f"The loss on held-out rows became {loss} at update {state.global_step}."
            raise WorkerError("loss-not-finite", _lower(what))


class PhaseMonitor(StatefulCallback):
    """Says in a note when the training has come into another phase."""

    kept = ("phases",)

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._known = LossPhaseTracker()

    @property
    def phases(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self._known.as_dict()

    @phases.setter
    def phases(self, data: dict[str, Any]) -> None:
        self._known = LossPhaseTracker.from_dict(data)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_more: Any,
    ) -> None:
        """Look at one more loss. The loss of learning from rewards says nothing of the kind."""
        loss = (logs or {}).get("loss")
        if loss is None or not math.isfinite(loss) or "reward" in (logs or {}):
            return
        warm = state.global_step <= args.get_warmup_steps(state.max_steps)
        begun = self._known.take(loss, warm=warm)
        if begun is not None:
            phase, way = begun
            updates = len(self._known.losses) * max(1, int(args.logging_steps))
            text = in_words(phase, way, updates)
            self._log.note(f"phase-{phase}", f"Update {state.global_step:,}: {text}")


class EarlyStop(EarlyStoppingCallback):
    """Ends a training that learns nothing more on held-out rows, and says so."""

    def tell_to(self, log: EventLog, course: TrainingProgress) -> None:
        """Name who hears of it; not in the constructor, which a checkpoint calls as well."""
        self._log, self._course = log, course

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Go on counting where a checkpoint left off."""
        super().on_train_begin(args, state, control, **more)
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
        **more: Any,
    ) -> None:
        """Count the checks that were no better; the last of them ends the training."""
        was = control.should_training_stop
        if state.global_step == 0:
            return  # what was measured before the first update is what is to be beaten
        super().on_evaluate(args, state, control, metrics or {}, **more)
        if control.should_training_stop and not was and state.global_step < state.max_steps:
            self._course.stopped_early = True
            checks = self.early_stopping_patience
            self._log.note(
                "early-stop",
                f"Stopped early at update {state.global_step:,} of {state.max_steps:,}: the last "
                f"{checks} check{'' if checks == 1 else 's'} on held-out rows brought nothing "
                "better. The best state is kept.",
            )


def _lower(what: str) -> Problem:
    remedy = "Lower the learning rate, or train in bf16 or fp32 instead of fp16."
    return Problem("training", what, remedy)
