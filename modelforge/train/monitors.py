"""What watches a training: no numbers, a stop in time, a rate that is halved, phases in words."""

from __future__ import annotations

import math
import time
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

from modelforge.config.schema import TrainingConfig
from modelforge.errors import Problem
from modelforge.train.failures import WorkError
from modelforge.train.phases import Phases, in_words
from modelforge.train.reporter import Course
from modelforge.train.telling import Teller

# On a card a look at the loss waits for all that was asked of it, so it is taken now and then.
LOOK_S = 1.0
WINDOW, FEWEST = 100, 20
SIGMAS, GRADIENT_TIMES = 3.0, 10.0
# A loss that hardly varies would call every breath a leap.
LEAST_SIGMA = 0.02
HALVED_FOR, PERMANENT_AFTER, MOST_HALVINGS = 50, 2, 5


def attach(trainer: Any, config: TrainingConfig, teller: Teller, course: Course) -> None:
    """Add to a trainer what the settings ask to watch; broken numbers are always watched."""
    asked = config.evaluation
    trainer.add_callback(Sentinel(trainer))
    if asked.phase_monitor:
        trainer.add_callback(PhaseMonitor(teller))
    if asked.loss_guard:
        trainer.add_callback(LossGuard(teller))
    if asked.early_stopping and trainer.args.eval_strategy != "no":
        watch = EarlyStop(asked.early_stopping_patience, asked.early_stopping_threshold)
        watch.tell_to(teller, course)
        trainer.add_callback(watch)


class Sentinel(TrainerCallback):
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
        if not math.isfinite(float(self._trainer._tr_loss)):
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
            raise WorkError("loss-not-finite", _lower(f"{what}, so nothing more can be learned."))

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
            raise WorkError("loss-not-finite", _lower(what))


class Remembering(TrainerCallback, ExportableState):
    """A callback whose attributes in `kept` lie in checkpoints and come back with them."""

    kept: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"args": {}, "attributes": {name: getattr(self, name) for name in self.kept}}

    def on_train_begin(self, _args: Any, state: TrainerState, *_more: Any, **_rest: Any) -> None:
        """Go on from what the checkpoint has kept, if the run goes on from one."""
        name = type(self).__name__
        # The trainer expects every such callback there, also one that the checkpoint has not.
        held = state.stateful_callbacks.setdefault(name, self.state())
        if isinstance(held, dict):
            for each, value in held.get("attributes", {}).items():
                if each in self.kept:
                    setattr(self, each, value)


class PhaseMonitor(Remembering):
    """Says in a note when the training has come into another phase."""

    kept = ("phases",)

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._known = Phases()

    @property
    def phases(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self._known.as_dict()

    @phases.setter
    def phases(self, data: dict[str, Any]) -> None:
        self._known = Phases.from_dict(data)

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
            self._teller.note(f"phase-{phase}", f"Update {state.global_step:,}: {text}")


class EarlyStop(EarlyStoppingCallback):
    """Ends a training that learns nothing more on held-out rows, and says so."""

    def tell_to(self, teller: Teller, course: Course) -> None:
        """Name who hears of it; not in the constructor, which a checkpoint calls as well."""
        self._teller, self._course = teller, course

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
            self._course.is_early = True
            checks = self.early_stopping_patience
            self._teller.note(
                "early-stop",
                f"Stopped early at update {state.global_step:,} of {state.max_steps:,}: the last "
                f"{checks} check{'' if checks == 1 else 's'} on held-out rows brought nothing "
                "better. The best state is kept.",
            )


class LossGuard(Remembering):
    """Halves the learning rate for a while when the loss or the gradients leap.

    The first two halvings end after 50 updates, the next three stay; there are no more than five.
    """

    kept = ("halvings", "left", "losses", "norms")

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
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
        self._teller.note(
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
            self._teller.note("loss-guard", f"Update {state.global_step:,}: {text}")


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
    inner._last_lr = [group["lr"] for group in optimizer.param_groups]
    return float(optimizer.param_groups[0]["lr"])


def _lower(what: str) -> Problem:
    remedy = "Lower the learning rate, or train in bf16 or fp32 instead of fp16."
    return Problem("training", what, remedy)
