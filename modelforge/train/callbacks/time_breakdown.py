"""Measure how long each part of the training takes.

A mark ends a part: the time since the previous mark belongs to it. On a GPU a mark is a CUDA event,
which the GPU reaches in its own time; nothing waits for it until the times are read.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from modelforge.runs.progress.measured_events import TimeBreakdownEvent
from modelforge.train.callbacks.memory_breakdown import measure_memory
from modelforge.train.callbacks.system_stats import synchronized_time
from modelforge.train.event_log import EventLog
from modelforge.train.job import WorkerContext

INTERVAL_S = 10.0
# Marks that are kept before their times are read.
MAX_PENDING = 2_000


class PartClock:
    """Sums the seconds of each part. Nothing is measured while `is_paused`."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._pending: list[tuple[str, Any, Any]] = []
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._last: Any = None
        self.is_paused = False

    def mark(self, part: str) -> None:
        """End a part: the time since the previous mark is its own. The first mark begins."""
        if self.is_paused:
            return
        now = self._now()
        if self._last is not None:
            self._pending.append((part, self._last, now))
        self._last = now
        if len(self._pending) >= MAX_PENDING:
            self.seconds()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part so far; on a GPU this waits for the newest mark."""
        pending, self._pending = self._pending, []
        if pending and self._device == "cuda":
            pending[-1][2].synchronize()
        for part, begin, end in pending:
            is_event = self._device == "cuda"
            self._seconds[part] += begin.elapsed_time(end) / 1000 if is_event else end - begin
        return dict(self._seconds)

    def _now(self) -> Any:
        if self._device != "cuda":
            return synchronized_time(self._device)
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def measure_parts(context: WorkerContext, trainer: Any, stage: int | None) -> None:
    """Measure time and memory by part, if configured; `stage` is the number of the training."""
    logging, plan, log = context.job.config.logging, context.job.plan, context.log
    if logging.time_breakdown:
        generates = plan.facts.generates and hasattr(trainer, "num_generations")
        loading = sum(context.load_seconds)
        measure_time(trainer, log, plan.device, generates=generates, loading=loading, stage=stage)
    if logging.memory_breakdown:
        measure_memory(trainer, log, plan.device, stage)


def measure_time(
    trainer: Any, log: EventLog, device: str, *, generates: bool, loading: float, stage: int | None
) -> None:
    """Measure the parts of the training from now on; `loading` is what loading has taken, in s."""
    clock = PartClock(device)
    before_forward = "generation" if generates else "data"
    trainer.get_batch_samples = _between(clock, trainer.get_batch_samples, "other", "data")
    trainer.compute_loss = _between(clock, trainer.compute_loss, before_forward, "forward")
    accelerator = trainer.accelerator
    accelerator.backward = _between(clock, accelerator.backward, "forward", "backward")
    trainer.evaluate = _paused(clock, trainer.evaluate)
    trainer.add_callback(TimeBreakdown(clock, log, loading, stage))


def _between(clock: PartClock, call: Callable[..., Any], before: str, part: str) -> Any:
    """Return a function whose time is that of a part; the time before it is of another."""

    @functools.wraps(call)
    def measured(*args: Any, **kwargs: Any) -> Any:
        clock.mark(before)
        result = call(*args, **kwargs)
        clock.mark(part)
        return result

    return measured


def _paused(clock: PartClock, call: Callable[..., Any]) -> Any:
    """Return a function whose time is that of the evaluation, whatever it calls."""

    @functools.wraps(call)
    def measured(*args: Any, **kwargs: Any) -> Any:
        clock.mark("other")
        clock.is_paused = True
        try:
            return call(*args, **kwargs)
        finally:
            clock.is_paused = False
            clock.mark("evaluation")

    return measured


class TimeBreakdown(TrainerCallback):
    """Marks the ends of the parts that the trainer announces, and writes the times."""

    def __init__(self, clock: PartClock, log: EventLog, loading: float, stage: int | None) -> None:
        self._clock, self._log, self._stage = clock, log, stage
        self._loading = loading
        self._written = time.monotonic()

    def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Begin to measure."""
        self._clock.mark("other")

    def on_pre_optimizer_step(self, *_args: Any, **_kwargs: Any) -> None:
        """End the computation of the gradient norm."""
        self._clock.mark("clipping")

    def on_optimizer_step(self, *_args: Any, **_kwargs: Any) -> None:
        """End the step of the optimizer."""
        self._clock.mark("optimizer")

    def on_log(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Write the times so far, at most every ten seconds."""
        self._clock.mark("other")
        if time.monotonic() - self._written >= INTERVAL_S:
            self._write(state.global_step)

    def on_save(
        self, _args: Any, _state: TrainerState, _control: TrainerControl, **_kwargs: Any
    ) -> None:
        """End the saving of a checkpoint."""
        self._clock.mark("saving")

    def on_train_end(self, _args: Any, state: TrainerState, *_rest: Any, **_kwargs: Any) -> None:
        """Write the times of the whole training."""
        self._clock.mark("other")
        self._write(state.global_step)
        parts = self._parts()
        total = sum(parts.values()) or 1.0
        shares = (f"{name} {100 * value / total:.0f} %" for name, value in parts.items())
        self._log.line(f"Time by part: {', '.join(shares)}")

    def _write(self, step: int) -> None:
        self._written = time.monotonic()
        self._log.write(TimeBreakdownEvent(step=step, parts=self._parts(), stage=self._stage))

    def _parts(self) -> dict[str, float]:
        parts = {"loading": self._loading, **self._clock.seconds()}
        return {name: round(value, 4) for name, value in parts.items() if value}
