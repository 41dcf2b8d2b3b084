"""What the worker says while it trains: trainer callbacks to events and log lines."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.runs.event_types import EvalEvent, PlanEvent, SavedEvent, StepEvent
from modelforge.train.callbacks.system_stats import SystemStats
from modelforge.train.event_log import EventLog
from modelforge.train.stop import Stop

_NOT_MEASURED = frozenset(
    {"loss", "grad_norm", "learning_rate", "epoch", "num_tokens"} | {"num_input_tokens_seen"}
)


@dataclass
class TrainingProgress:
    """How far a training has come; `best_step` is the update of the best check on held-out rows.

    Best is the lowest loss, or what the trainer watches instead; `best_loss` is None then.
    A course that is early was ended by its checks, and is as whole as any.
    """

    step: int = 0
    loss: float | None = None
    eval_loss: float | None = None
    best_loss: float | None = None
    best_value: float | None = None
    best_step: int | None = None
    eval_step: int | None = None
    is_complete: bool = False
    stopped_early: bool = False


class EventReporter(TrainerCallback):
    """Turns callbacks into events, measures speed, and looks for the stop file at every batch.

    The clock runs only while updates are made: evaluation and saving count for neither tokens/s
    nor seconds per update.
    """

    def __init__(
        self,
        log: EventLog,
        stop: Stop,
        pulse: SystemStats,
        facts: dict[str, Any],
        stage: int | None = None,
    ) -> None:
        self.course = TrainingProgress()
        self._stage = stage
        self._log = log
        self._stop = stop
        self._pulse = pulse
        self._facts = facts
        self._mark = self._busy_s = 0.0
        self._tokens = self._logged_step = self._checked = 0
        self._owes_check = False

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, and whether the check of this update is still owed."""
        return {
            "course": asdict(self.course),
            "tokens": self._tokens,
            "logged_step": self._logged_step,
            "busy_s": self._busy_s,
            "owes_check": self._owes_check or self._checked > 0,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint has kept."""
        vars(self.course).update(state["course"], is_complete=False)
        self._tokens, self._logged_step = state["tokens"], state["logged_step"]
        self._busy_s = state["busy_s"]

    def on_train_begin(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_more: Any
    ) -> None:
        """Say what is really going to be run."""
        epochs = state.max_steps / max(1, self._facts.pop("steps_per_epoch"))
        self._log.plan(
            PlanEvent(total_steps=state.max_steps, epochs=round(epochs, 2), **self._facts)
        )
        self._training(state)
        self._mark = time.perf_counter()

    def on_substep_end(
        self, _args: TrainingArguments, _state: TrainerState, _control: TrainerControl, **_more: Any
    ) -> None:
        """End between two batches of one update; what they added up is let go."""
        self._stop.check()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_more: Any
    ) -> None:
        """Count the time, and end the training when somebody wants it to."""
        now = time.perf_counter()
        self._busy_s += now - self._mark
        self._mark = now
        self.course.step = state.global_step
        if self._stop.mode is not None:
            # What has been learned is saved once the training has ended.
            self._owes_check = control.should_evaluate
            control.should_log = control.should_training_stop = True
            control.should_evaluate = control.should_save = False
            args.load_best_model_at_end = False

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_more: Any,
    ) -> None:
        """Report the updates since the last report; raises when the loss is no number any more."""
        if not logs or "loss" not in logs:
            return
        loss = logs["loss"]
        if not math.isfinite(loss):
            raise WorkerError("loss-not-finite", _not_finite(loss, state.global_step))
        tokens = int(logs.get("num_tokens") or state.num_input_tokens_seen)
        fresh, updates = tokens - self._tokens, state.global_step - self._logged_step
        busy_s = max(self._busy_s, 1e-9)
        self.course.loss = loss
        self._log.step(
            StepEvent(
                step=state.global_step,
                total_steps=state.max_steps,
                epoch=state.epoch,
                loss=loss,
                learning_rate=logs.get("learning_rate"),
                grad_norm=logs.get("grad_norm"),
                tokens=fresh,
                tokens_per_s=round(fresh / busy_s, 2),
                seconds=round(busy_s / max(1, updates), 4),
                metrics=measured(logs),
                stage=self._stage,
                **self._pulse.take(),
            )
        )
        self._tokens, self._logged_step, self._busy_s = tokens, state.global_step, 0.0

    def on_prediction_step(
        self,
        _args: TrainingArguments,
        _state: TrainerState,
        _control: TrainerControl,
        eval_dataloader: Any = None,
        **_more: Any,
    ) -> None:
        """Say how far the evaluation is, and leave it when somebody wants the run to end."""
        self._stop.check()
        self._checked += 1
        total = len(eval_dataloader) if eval_dataloader is not None else None
        text = "Checking on the held-out rows"
        self._log.phase("evaluating", text, done=self._checked, total=total)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_more: Any,
    ) -> None:
        """Report the check on held-out rows, and whether it is the best so far."""
        self._checked, self._owes_check = 0, False
        course, found = self.course, metrics or {}
        watched = (args.metric_for_best_model or "loss").removeprefix("eval_")
        value = found.get(f"eval_{watched}", math.nan)
        # What was measured before the first update is what the updates are to beat.
        is_best = state.global_step > 0 and _is_better(value, course.best_value, args)
        loss = value if watched == "loss" else None
        course.eval_loss, course.eval_step = loss, state.global_step
        if is_best:
            course.best_loss, course.best_value = loss, value
            course.best_step = state.global_step
            # The best is to be there at the end, whatever is saved how often.
            control.should_save = control.should_save or args.load_best_model_at_end
        self._log.evaluation(
            EvalEvent(
                step=state.global_step,
                epoch=state.epoch,
                loss=loss,
                best=is_best,
                metrics=measured(found),
                stage=self._stage,
            )
        )
        if not control.should_training_stop:
            self._training(state)
        self._mark = time.perf_counter()

    def on_save(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_more: Any
    ) -> None:
        """Report a checkpoint."""
        name = f"checkpoint-{state.global_step}"
        is_best = state.best_global_step == state.global_step
        self._log.saved(
            SavedEvent(step=state.global_step, path=f"checkpoints/{name}", best=is_best)
        )
        self._mark = time.perf_counter()

    def resume_clock(self, state: TrainerState) -> None:
        """Leave the time of a pause out of the clock."""
        self._training(state)
        self._mark = time.perf_counter()

    def _training(self, state: TrainerState) -> None:
        self._log.phase("training", "Training", done=state.global_step, total=state.max_steps)


def measured(logs: dict[str, Any]) -> dict[str, float]:
    """Return what a trainer has measured beside the loss and the clock, without `eval_`."""
    named = {name.removeprefix("eval_"): value for name, value in logs.items()}
    return {
        name: round(float(value), 6)
        for name, value in named.items()
        if name not in _NOT_MEASURED
        and not name.endswith(("runtime", "per_second"))
        and isinstance(value, int | float)
        and math.isfinite(value)
    }


def _is_better(value: float, best: float | None, args: TrainingArguments) -> bool:
    """Say whether a check beats the best so far; what is no number never does."""
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return value > best if args.greater_is_better else value < best


def _not_finite(loss: float, step: int) -> Problem:
    return Problem(
        "training",
        f"The loss became {loss} at update {step}, so nothing more can be learned.",
        "Lower the learning rate, or train in bf16 or fp32 instead of fp16.",
    )
