"""Durations of steps, evaluations and checkpoints: the part of a timeline that the ETA needs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from modelforge.runs.event_fields import Event
from modelforge.runs.event_types import (
    AdjustedEvent,
    Ending,
    EvalEvent,
    PhaseEvent,
    PlanEvent,
    ResumedEvent,
    SamplesEvent,
    SavedEvent,
    StartedEvent,
    StepEvent,
    handlers_by_type,
)

REMEMBERED = 400


class StepWindow(NamedTuple):
    """The steps between two step events: how many, their tokens, and their seconds in all."""

    steps: int
    tokens: float
    seconds: float


@dataclass(slots=True)
class PhaseProgress:
    """A phase: when it began, at which count, and how far it is."""

    name: str = ""
    began: float = 0.0
    first: int = 0
    total: int | None = None
    done: int = 0


@dataclass
class StepTimings:
    """Timings of the current stage. Times are Unix seconds, durations seconds.

    `evaluated` and `saved` are the steps of the newest evaluation and checkpoint, `sampled` that of
    the newest samples or -1, `tokens` the tokens of all steps. `is_adjusted`: batches were split
    differently after the run began.
    """

    plan: PlanEvent | None = None
    total_steps: int | None = None
    step: int = 0
    windows: deque[StepWindow] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    tokens: float = 0.0
    evaluation_seconds: list[float] = field(default_factory=list)
    save_seconds: list[float] = field(default_factory=list)
    sample_seconds: list[float] = field(default_factory=list)
    evaluated: int = 0
    sampled: int = -1
    saved: int = 0
    phase: PhaseProgress = field(default_factory=PhaseProgress)
    is_adjusted: bool = False
    is_over: bool = False
    started: float | None = None
    updated: float = 0.0
    # Time and step of the newest event after which an evaluation or a save may begin.
    _mark: tuple[float, int] = (0.0, -1)

    @property
    def stages(self) -> tuple[int, int] | None:
        """Number of the stage and of all stages; None for a run without stages."""
        if self.plan is None or self.plan.stage is None:
            return None
        return self.plan.stage, self.plan.stages or self.plan.stage

    def __post_init__(self) -> None:
        self._handlers = handlers_by_type(self)

    def add(self, t: float, event: Event) -> None:
        """Add one event."""
        self.updated = t
        if handle := self._handlers.get(type(event)):
            handle(t, event)

    def _on_started(self, t: float, _event: StartedEvent) -> None:
        self.is_over, self.started = False, t

    def _on_finished(self, _t: float, _event: Ending) -> None:
        self.is_over = True

    _on_stopped = _on_failed = _on_finished

    def _on_resumed(self, t: float, event: ResumedEvent) -> None:
        self.step = self.evaluated = self.saved = event.step
        self.sampled = min(self.sampled, event.step)
        self._mark = (t, self.step)

    def _on_adjusted(self, _t: float, _event: AdjustedEvent) -> None:
        # Earlier measurements belong to another way of computing.
        self.windows.clear()
        self.is_adjusted = True

    def _on_plan(self, t: float, event: PlanEvent) -> None:
        before = self.stages
        self.plan, self.total_steps = event, event.total_steps
        if event.stage is not None and self.stages != before:
            self.windows.clear()
            self.step, self.tokens = 0, 0.0
            self.evaluated = self.saved = 0
            self.sampled = min(self.sampled, 0)
        self._mark = (t, self.step)

    def _on_step(self, t: float, event: StepEvent) -> None:
        step, seconds, tokens = event.step, event.seconds, float(event.tokens or 0)
        steps = step - self.step
        self.total_steps = event.total_steps or self.total_steps
        self.tokens += tokens
        if steps > 0 and seconds is not None:
            self.windows.append(StepWindow(steps, tokens, seconds * steps))
        self.step = step
        self._mark = (t, step)

    def _on_eval(self, t: float, event: EvalEvent) -> None:
        since, step = self._mark
        phase = self.phase
        if event.step and step == event.step:
            self.evaluation_seconds.append(t - since)
        elif (
            event.step and phase.name == "evaluating" and phase.total and phase.total > phase.first
        ):
            share = (phase.total - phase.first) / phase.total
            self.evaluation_seconds.append((t - phase.began) / share)
        self.evaluated = event.step
        self._mark = (t, event.step)

    def _on_samples(self, t: float, event: SamplesEvent) -> None:
        if event.seconds is not None:
            self.sample_seconds.append(event.seconds)
        self.sampled = event.step
        # What follows begins only now; before the plan no step has been made.
        self._mark = (t, self._mark[1])

    def _on_saved(self, t: float, event: SavedEvent) -> None:
        since, step = self._mark
        if step == event.step:
            self.save_seconds.append(t - since)
        self.saved = event.step
        self._mark = (t, event.step)

    def _on_phase(self, t: float, event: PhaseEvent) -> None:
        phase, done = self.phase, event.done or 0
        if (event.name, event.total) != (phase.name, phase.total) or done < phase.done:
            self.phase = PhaseProgress(event.name, t, done, event.total, done)
        else:
            phase.done = done
