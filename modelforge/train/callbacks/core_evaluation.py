"""Score the model on CORE while it trains: every n steps and after the last one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from accelerate.utils.memory import clear_device_cache
from transformers import TrainerCallback, TrainerControl, TrainerState

from modelforge.data.core_tasks import CoreTask, read_core_tasks
from modelforge.modeling.errors import first_line
from modelforge.modeling.generate import generating
from modelforge.modeling.pretraining.core_predict import ModelPredictor, core_encoder
from modelforge.modeling.pretraining.core_result import CoreResult, TaskScore, as_data, task_score
from modelforge.modeling.pretraining.core_score import Predicted, accuracy
from modelforge.paths import expand_user
from modelforge.runs.events import iter_events
from modelforge.runs.progress.measured_events import CoreEvent
from modelforge.runs.timeline import Timeline
from modelforge.train.job import WorkerContext
from modelforge.train.trainer.state import preserve_rng

PHASE = "core"


class CoreCallback(TrainerCallback):
    """Scores `trainer.model` on tasks and writes the scores as events.

    A step whose score is known is not scored again, as after a resume. An error is noted, and no
    further step is scored.

    Args:
        context: the run.
        trainer: the trainer of the model, with its tokenizer as `processing_class`.
        tasks: the tasks, at least one.
        resume_clock: continues to count the training time; scoring is none.
    """

    def __init__(
        self,
        context: WorkerContext,
        trainer: Any,
        tasks: Sequence[CoreTask],
        resume_clock: Callable[[TrainerState], None],
    ) -> None:
        self._context, self._trainer, self._tasks = context, trainer, tasks
        self._resume_clock = resume_clock
        evaluation = context.job.config.evaluation
        self._every, self._most = evaluation.core_every, evaluation.core_max_per_task
        known = Timeline().add_all(iter_events(context.job.run.events)).core_scores
        self._scored = {event.step for event in known}
        self._is_off = False

    def on_step_end(
        self, _args: Any, state: TrainerState, _control: TrainerControl, **_kwargs: Any
    ) -> None:
        """Score after every n-th step and after the last one, unless the run must stop."""
        step = state.global_step
        is_due = step >= state.max_steps or (self._every > 0 and step % self._every == 0)
        if not is_due or self._is_off or self._context.stop.mode is not None:
            return
        if step not in self._scored:
            self._score(step)
            self._resume_clock(state)

    def _score(self, step: int) -> None:
        began = time.perf_counter()
        model = self._trainer.model
        try:
            with preserve_rng(), generating(model):
                result = CoreResult(tuple(self._task_scores(model)))
        except (RuntimeError, MemoryError, ValueError, IndexError) as error:
            self._is_off = True
            clear_device_cache(garbage_collection=True)
            text = f"The model could not be scored on CORE: {first_line(error)}"
            self._context.log.note("core-not-scored", text)
            return
        self._scored.add(step)
        low, high = result.interval
        event = CoreEvent(
            step=step,
            score=round(result.score, 6),
            low=round(low, 6),
            high=round(high, 6),
            tasks=as_data(result.tasks),
            seconds=round(time.perf_counter() - began, 4),
        )
        self._context.log.write(event)

    def _task_scores(self, model: Any) -> list[TaskScore]:
        """Return the scores of all tasks, with progress by rows; raises StopRequested."""
        encode = core_encoder(self._trainer.processing_class)
        predict, limit = ModelPredictor(model), int(model.config.max_position_embeddings)
        total = sum(min(self._most, len(task.rows)) for task in self._tasks)
        done, log = 0, self._context.log

        def counted(sequences: Sequence[list[int]]) -> Sequence[Predicted]:
            nonlocal done
            self._context.stop.check()
            done += 1
            log.phase(PHASE, "Scoring on CORE", done=done, total=total)
            return predict(sequences)

        return [
            task_score(
                task,
                accuracy(task, encode, counted, most=self._most, context=limit),
                self._most,
            )
            for task in self._tasks
        ]


def attach(
    context: WorkerContext, trainer: Any, resume_clock: Callable[[TrainerState], None]
) -> None:
    """Add the callback to the trainer of a training from nothing with a CORE folder.

    Raises:
        DataError: the folder has problems; all are named.
    """
    config = context.job.config
    if not config.pretraining.enabled or config.evaluation.core_bundle is None:
        return
    tasks = read_core_tasks(expand_user(config.evaluation.core_bundle))
    trainer.add_callback(CoreCallback(context, trainer, tasks, resume_clock))
