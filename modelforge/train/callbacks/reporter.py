"""Write the events and log lines of a training: steps, evaluations and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modelforge.config.pretraining.peak_flops import share_of_peak
from modelforge.modeling.errors import not_finite
from modelforge.runs.event_types import EvalEvent, PlanEvent, SavedEvent, StepEvent
from modelforge.train.callbacks.system_stats import SystemStats
from modelforge.train.event_log import EventLog
from modelforge.train.stop import Stop

Logs = dict[str, float]
_NOT_METRICS = frozenset(
    {"loss", "grad_norm", "learning_rate", "epoch", "num_tokens", "num_input_tokens_seen"}
)
# Fields of `TrainingProgress` that checkpoints keep under another name.
_STORED = {"eval_step": "checked_step", "stopped_early": "is_early"}


@dataclass
class TrainingProgress:
    """How far a training has come.

    Attributes:
        best_value: Best value of the watched metric; `best_loss` is None unless that is the loss.
        best_bits_per_byte: Bits per byte of that evaluation; None where they are not measured.
        best_step: Step of the best evaluation.
        eval_step: Step of the newest evaluation.
        is_complete: False if the run was stopped; a training that early stopping ended is complete.
    """

    step: int = 0
    loss: float | None = None
    eval_loss: float | None = None
    eval_bits_per_byte: float | None = None
    best_loss: float | None = None
    best_value: float | None = None
    best_bits_per_byte: float | None = None
    best_step: int | None = None
    eval_step: int | None = None
    is_complete: bool = False
    stopped_early: bool = False

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        values = asdict(self)
        del values["is_complete"]
        return {_STORED.get(name, name): value for name, value in values.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        for name in asdict(self):
            setattr(self, name, state.get(_STORED.get(name, name), getattr(self, name)))


class EventReporter(TrainerCallback):
    """Writes events, measures throughput, and checks for a stop request at every batch.

    Evaluation and saving are not counted as training time.
    """

    def __init__(
        self,
        log: EventLog,
        stop: Stop,
        stats: SystemStats,
        facts: dict[str, Any],
        stage: int | None = None,
    ) -> None:
        self.progress = TrainingProgress()
        self._stage = stage
        self._log = log
        self._stop = stop
        self._stats = stats
        self._facts = facts
        self._clock = self._busy_s = 0.0
        self._tokens = self._logged_step = self._eval_batches = 0
        self._owes_evaluation = False

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, and whether the evaluation of this step is missing."""
        return {
            "course": self.progress.state(),
            "tokens": self._tokens,
            "logged_step": self._logged_step,
            "busy_s": self._busy_s,
            "owes_check": self._owes_evaluation or self._eval_batches > 0,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.progress.restore(state["course"])
        self._tokens, self._logged_step = state["tokens"], state["logged_step"]
        self._busy_s = state["busy_s"]

    def on_train_begin(
        self, _args: Any, state: TrainerState, *_rest: Any, model: Any = None, **_kwargs: Any
    ) -> None:
        """Write the plan event."""
        if "ranks" in self._facts:
            self._facts["rank_parameters"] = parameters_here(model)
        epochs = state.max_steps / max(1, self._facts.pop("steps_per_epoch"))
        self._log.write(
            PlanEvent(total_steps=state.max_steps, epochs=round(epochs, 2), **self._facts)
        )
        self.resume_clock(state)

    def on_substep_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Stop between two batches of a step; the unfinished step is discarded."""
        self._stop.agree()
        self._stop.check()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        """Count the training time, and end the training on a stop request."""
        now = time.perf_counter()
        self._busy_s += now - self._clock
        self._clock = now
        self.progress.step = state.global_step
        self._stop.agree()
        if self._stop.mode is not None:
            # The trained weights are saved after the training has ended.
            self._owes_evaluation = control.should_evaluate
            control.should_log = control.should_training_stop = True
            control.should_evaluate = control.should_save = False
            args.load_best_model_at_end = False

    def on_log(
        self, _args: Any, state: TrainerState, *_rest: Any, logs: Logs, **_kwargs: Any
    ) -> None:
        """Write a step event for the steps since the last one.

        Raises:
            WorkerError: The loss is not finite.
        """
        if "loss" not in logs:
            return
        loss = logs["loss"]
        if not math.isfinite(loss):
            raise not_finite(f"The loss became {loss} at step {state.global_step}.")
        tokens = int(logs.get("num_tokens") or state.num_input_tokens_seen)
        new_tokens, steps = tokens - self._tokens, state.global_step - self._logged_step
        busy_s = max(self._busy_s, 1e-9)
        self.progress.loss = loss
        self._log.write(
            StepEvent(
                step=state.global_step,
                total_steps=state.max_steps,
                epoch=state.epoch,
                loss=loss,
                learning_rate=logs.get("learning_rate"),
                grad_norm=logs.get("grad_norm"),
                tokens=new_tokens,
                tokens_per_s=round(new_tokens / busy_s, 2),
                seconds=round(busy_s / max(1, steps), 4),
                metrics=trainer_metrics(logs) | self._of_text(loss, new_tokens, busy_s),
                stage=self._stage,
                **self._so_far(tokens),
                **self._stats.read(),
            )
        )
        self._tokens, self._logged_step, self._busy_s = tokens, state.global_step, 0.0

    def on_prediction_step(self, *_args: Any, eval_dataloader: Any, **_kwargs: Any) -> None:
        """Report the progress of an evaluation, and end it on a stop request."""
        self._stop.agree()
        self._stop.check()
        self._eval_batches += 1
        total = len(eval_dataloader)
        self._log.phase("evaluating", "Evaluating", done=self._eval_batches, total=total)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Logs,
        **_kwargs: Any,
    ) -> None:
        """Write an evaluation event, and keep the best evaluation."""
        self._eval_batches, self._owes_evaluation = 0, False
        progress = self.progress
        watched = (args.metric_for_best_model or "loss").removeprefix("eval_")
        value = metrics.get(f"eval_{watched}", math.nan)
        # An evaluation before the first step is the baseline.
        is_best = state.global_step > 0 and _is_better(value, progress.best_value, args)
        loss = value if watched == "loss" else None
        progress.eval_loss, progress.eval_step = loss, state.global_step
        progress.eval_bits_per_byte = metrics.get("eval_bits_per_byte")
        if is_best:
            progress.best_loss, progress.best_value = loss, value
            progress.best_bits_per_byte = progress.eval_bits_per_byte
            progress.best_step = state.global_step
            # The best checkpoint must exist at the end, independent of the save interval.
            control.should_save = control.should_save or args.load_best_model_at_end
        self._log.write(
            EvalEvent(
                step=state.global_step,
                epoch=state.epoch,
                loss=loss,
                best=is_best,
                metrics=trainer_metrics(metrics),
                stage=self._stage,
            )
        )
        if not control.should_training_stop:
            self._report_training(state)
        self._clock = time.perf_counter()

    def on_save(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Write an event for a checkpoint."""
        step = state.global_step
        is_best = state.best_global_step == step
        path = f"checkpoints/checkpoint-{step}"
        self._log.write(SavedEvent(step=step, path=path, best=is_best))
        self._clock = time.perf_counter()

    def resume_clock(self, state: TrainerState) -> None:
        """Start counting training time, at the beginning and after a pause."""
        self._report_training(state)
        self._clock = time.perf_counter()

    def _of_text(self, loss: float, tokens: int, seconds: float) -> dict[str, float]:
        """Return MFU and bits per byte of steps, where the plan event has what they follow from.

        Bits per byte are by the mean bytes of a token of the whole text.
        """
        found = {}
        if (size := self._facts.get("bytes_per_token")) is not None:
            found["bits_per_byte"] = round(loss / (math.log(2) * size), 6)
        if (per_token := self._facts.get("flops_per_token")) is not None:
            share = share_of_peak(per_token * tokens, seconds, self._facts.get("peak_flops"))
            found |= {} if share is None else {"mfu": round(share, 6)}
        return found

    def _so_far(self, tokens: int) -> dict[str, Any]:
        """Return tokens and FLOPs of all steps, in runs that are planned by them."""
        per_token = self._facts.get("flops_per_token")
        if per_token is None:
            return {}
        return {"tokens_so_far": tokens, "flops_so_far": per_token * tokens}

    def _report_training(self, state: TrainerState) -> None:
        self._log.phase("training", "Training", done=state.global_step, total=state.max_steps)


def parameters_here(model: Any) -> int:
    """Return the number of parameters that this process holds; of a divided one, its part."""
    weights = model.parameters()
    return sum((each.to_local() if hasattr(each, "to_local") else each).numel() for each in weights)


def trainer_metrics(logs: dict[str, Any]) -> dict[str, float]:
    """Return the trainer's own metrics, without the prefix `eval_`; not loss, rate and times."""
    named = {name.removeprefix("eval_"): value for name, value in logs.items()}
    return {
        name: round(float(value), 6)
        for name, value in named.items()
        if name not in _NOT_METRICS
        and not name.endswith(("runtime", "per_second"))
        and isinstance(value, int | float)
        and math.isfinite(value)
    }


def _is_better(value: float, best: float | None, args: TrainingArguments) -> bool:
    """Return whether an evaluation is better than the best so far; NaN never is."""
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return value > best if args.greater_is_better else value < best
