"""The state of a run, folded from its events: stages, curves, phase, notes, samples and ending.

This is the only place that interprets the order of events: a later stage begins, a resumed run
drops what was measured after its checkpoint, a new start drops the previous ending. The run page,
metrics, verdict, ETA, run view and trial runs are views of a `Timeline`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import isfinite
from operator import attrgetter
from pathlib import Path
from typing import Self, TypeVar, get_args

from modelforge.runs.event_fields import Event
from modelforge.runs.event_types import (
    AdjustedEvent,
    Ending,
    EvalEvent,
    NoteEvent,
    PhaseEvent,
    PlanEvent,
    ResumedEvent,
    SampleEvent,
    SamplesEvent,
    SavedEvent,
    ScoresEvent,
    StartedEvent,
    StepEvent,
    handlers_by_type,
    parse,
)
from modelforge.runs.events import EventRecord, parse_lines, read_chunks, tail_events
from modelforge.runs.progress.downsample import Curve, DownsampledCurve, Point
from modelforge.runs.progress.measured_events import (
    CoreEvent,
    MemoryBreakdownEvent,
    PrivacyEvent,
    TimeBreakdownEvent,
)
from modelforge.runs.progress.timings import StepTimings

SAMPLES = 24
RECENT = 200
READERS = 8
SERIES = ("loss", "learning_rate", "tokens_per_s", "cpu_percent", "gpu_percent")
# Measured before the checkpoint that a run resumes from, and therefore not its newest values.
_DROPPED_ON_RESUME = (
    *(PlanEvent, StepEvent, EvalEvent, ScoresEvent, AdjustedEvent),
    *(TimeBreakdownEvent, MemoryBreakdownEvent, PrivacyEvent),
)
_E = TypeVar("_E", bound=Event)


class Stage:
    """A training stage; a run without stages has one.

    `train` holds curves of training metrics, `eval` those of the evaluation split, both by the
    trainer's names and over steps. `best` is the best evaluation loss. `first` is the first step
    since the latest start, with its Unix time. `peak_gib` is the most memory at a step, `seconds`
    the time from its plan to that of the next stage, without pauses before a resume.
    """

    def __init__(self, number: int = 1, new_curve: Callable[[], Curve] = DownsampledCurve) -> None:
        self.number = number
        self._new_curve = new_curve
        self.name = ""
        self.plan: PlanEvent | None = None
        self.step = 0
        self.epoch: float | None = None
        self.train = {name: new_curve() for name in SERIES}
        self._append_series = [curve.append for curve in self.train.values()]
        self.eval = {"loss": new_curve()}
        self.best: Point | None = None
        self.first: tuple[int, float] | None = None
        self.peak_gib: float | None = None
        self.seconds = 0.0

    @property
    def total_steps(self) -> int | None:
        """Number of steps of this stage."""
        return self.plan.total_steps if self.plan else None

    @property
    def progress(self) -> float | None:
        """Share of the steps that are done, from 0 to 1; None when the total is unknown."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else None

    def last(self, name: str) -> float | None:
        """Return the newest value of a training metric."""
        curve = self.train.get(name)
        return curve[-1][1] if curve else None

    def last_eval(self, name: str) -> float | None:
        """Return the newest value of an evaluation metric."""
        curve = self.eval.get(name)
        return curve[-1][1] if curve else None

    def add_step(self, t: float, event: StepEvent) -> None:
        """Add the metrics of a step."""
        self.step = event.step
        if event.epoch is not None:
            self.epoch = event.epoch
        if self.first is None:
            self.first = (event.step, t)
        if event.memory_gib:
            self.peak_gib = max(event.memory_gib, self.peak_gib or 0.0)
        self._add_series(event)
        self._add_metrics(self.train, event)

    def add_eval(self, event: EvalEvent) -> None:
        """Add the metrics of an evaluation."""
        self._add_metrics(self.eval, event)
        if event.loss is not None and isfinite(event.loss):
            self.eval["loss"].append((event.step, event.loss))
            if event.best:
                self.best = (event.step, event.loss)

    def cut(self, step: int) -> None:
        """Drop what came after a step: the run continues from there."""
        for curve in (*self.train.values(), *self.eval.values()):
            curve.cut(step)
        if self.best is not None and self.best[0] > step:
            self.best = min(self.eval["loss"], key=lambda point: point[1], default=None)
        self.step, self.first = min(self.step, step), None

    def _add_series(self, event: StepEvent) -> None:
        for append, value in zip(self._append_series, _series_values(event), strict=True):
            if value is not None and isfinite(value):
                append((event.step, value))

    def _add_metrics(self, curves: dict[str, Curve], event: StepEvent | EvalEvent) -> None:
        for name, value in event.metrics.items():
            if isinstance(value, (int, float)) and isfinite(value):
                if name not in curves:
                    curves[name] = self._new_curve()
                curves[name].append((event.step, value))


_series_values = attrgetter(*SERIES)


class StageTimeline:
    """The stages of a run after the events so far, with their plans and curves.

    Give it every event once, in order. The events may begin in the middle, as the tail of a long
    file does. `new_stage` makes the stage with a number. Kinds of newer versions are ignored.
    """

    def __init__(self, new_stage: Callable[[int], Stage] = Stage) -> None:
        self._new_stage = new_stage
        self._handlers = handlers_by_type(self)
        self.stages = [new_stage(1)]

    @property
    def stage(self) -> Stage:
        """The current or last stage."""
        return self.stages[-1]

    def add(self, record: EventRecord) -> None:
        """Add one event."""
        _n, t, kind, data = record
        event = parse(kind, data)
        if handle := self._handlers.get(type(event)):
            handle(t, event)

    def add_all(self, records: Iterable[EventRecord]) -> Self:
        """Add events and return the timeline."""
        for record in records:
            self.add(record)
        return self

    def _on_resumed(self, _t: float, event: ResumedEvent) -> None:
        number = self.stage.number if event.stage is None else event.stage
        kept = [stage for stage in self.stages if stage.number <= number]
        self.stages = kept or [self._new_stage(number)]
        if self.stage.number == number:
            self.stage.cut(event.step)

    def _on_plan(self, _t: float, event: PlanEvent) -> None:
        stage = self._stage(event.stage)
        stage.plan = event
        stage.name = event.stage_name or stage.name

    def _on_step(self, t: float, event: StepEvent) -> None:
        self._stage(event.stage).add_step(t, event)

    def _on_eval(self, _t: float, event: EvalEvent) -> None:
        self._stage(event.stage).add_eval(event)

    def _stage(self, number: int | None) -> Stage:
        """Return the stage of an event; a number above the last one begins a new stage."""
        if number is None or number == self.stages[-1].number:
            return self.stages[-1]
        if number > self.stages[-1].number:
            self.stages.append(self._new_stage(number))
        return next((stage for stage in self.stages if stage.number == number), self.stages[-1])


class Timeline(StageTimeline):
    """The state of a run after the events so far."""

    def __init__(self, new_stage: Callable[[int], Stage] = Stage) -> None:
        super().__init__(new_stage)
        self._newest: dict[type[Event], Event] = {}
        self.stage_count: int | None = None
        self.timings = StepTimings()
        self.phase: PhaseEvent | None = None
        self.peak_memory_gib: float | None = None
        self.began: float | None = None
        self.updated: float | None = None
        self.number = 0
        self.notes: list[NoteEvent] = []
        self.samples: deque[SampleEvent] = deque(maxlen=SAMPLES)
        # The answers to the sample prompts, oldest first.
        self.answers: list[SamplesEvent] = []
        # The scores on CORE, oldest first.
        self.core_scores: list[CoreEvent] = []
        self.ending: Ending | None = None
        # The newest events that are worth a line in a log, with their Unix time.
        self.recent: deque[tuple[float, Event]] = deque(maxlen=RECENT)

    @property
    def seconds_taken(self) -> float | None:
        """Time from the first start to the newest event, without the pauses before a resume."""
        if self.began is None or self.updated is None:
            return None
        return self.updated - self.began

    def newest(self, event_type: type[_E]) -> _E | None:
        """Return the newest event of a kind that is still valid, or None."""
        event = self._newest.get(event_type)
        return event if isinstance(event, event_type) else None

    def add(self, record: EventRecord) -> None:
        """Add one event."""
        self.number, t, kind, data = record
        event = parse(kind, data)
        event_type = type(event)
        if self.updated is not None and self.stage.plan and event_type is not StartedEvent:
            self.stage.seconds += t - self.updated
        if handle := self._handlers.get(event_type):
            handle(t, event)
        if event_type in _LOGGED:
            self.recent.append((t, event))
        self.timings.add(t, event)
        self._newest[event_type] = event
        self.updated = t

    def _on_started(self, t: float, _event: StartedEvent) -> None:
        if self.began is None or self.updated is None:
            self.began = t
        else:
            self.began += max(0.0, t - self.updated)
        self.ending = None
        for kind in (SavedEvent, ScoresEvent):
            self._newest.pop(kind, None)

    def _on_resumed(self, t: float, event: ResumedEvent) -> None:
        super()._on_resumed(t, event)
        number = self.stage.number if event.stage is None else event.stage
        kept_samples = [s for s in self.samples if _is_before(s, number, event.step)]
        self.samples = deque(kept_samples, maxlen=SAMPLES)
        self.answers = [each for each in self.answers if _is_before(each, number, event.step)]
        self.core_scores = [
            each for each in self.core_scores if _is_before(each, number, event.step)
        ]
        for kind in _DROPPED_ON_RESUME:
            self._newest.pop(kind, None)

    def _on_phase(self, t: float, event: PhaseEvent) -> None:
        before, self.phase = self.phase, event
        if before is None or (before.name, before.text) != (event.name, event.text):
            self.recent.append((t, event))

    def _on_plan(self, t: float, event: PlanEvent) -> None:
        super()._on_plan(t, event)
        self.stage_count = event.stages or self.stage_count

    def _on_step(self, t: float, event: StepEvent) -> None:
        self._stage(event.stage).add_step(t, event)
        self.phase = _TRAINING
        memory = event.vram_gib or event.ram_gib
        if memory is not None and memory > (self.peak_memory_gib or 0.0):
            self.peak_memory_gib = memory

    def _on_eval(self, t: float, event: EvalEvent) -> None:
        super()._on_eval(t, event)
        if event.loss is not None:
            self.recent.append((t, event))

    def _on_sample(self, _t: float, event: SampleEvent) -> None:
        self.samples.appendleft(event)

    def _on_samples(self, _t: float, event: SamplesEvent) -> None:
        self.answers.append(event)

    def _on_core(self, _t: float, event: CoreEvent) -> None:
        self.core_scores.append(event)

    def _on_note(self, _t: float, event: NoteEvent) -> None:
        self.notes.append(event)

    def _on_finished(self, _t: float, event: Ending) -> None:
        self.ending = event

    _on_stopped = _on_failed = _on_finished


_TRAINING = PhaseEvent(name="training", text="Training")
# Always worth a line in the log; a phase is if it is new, an evaluation if it has a loss.
_LOGGED = frozenset(
    (
        *(StartedEvent, ResumedEvent, StepEvent, SavedEvent, ScoresEvent, CoreEvent, NoteEvent),
        *get_args(Ending),
    )
)


def _is_before(sample: SampleEvent | SamplesEvent | CoreEvent, stage: int, step: int) -> bool:
    if sample.stage is not None and sample.stage != stage:
        return sample.stage < stage
    return sample.step <= step


class TimelineReader:
    """Follows the event file of one run for all who look at it; each byte is read once.

    `version` grows when there is something new. Looking at an unchanged file takes one `stat`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._lock = threading.Lock()
        self.timeline = Timeline()
        self.version = 0

    def poll(self) -> int:
        """Add the new events to the timeline and return the version."""
        with self._lock:
            for lines, end in read_chunks(self._path, self._offset):
                self._offset = end
                before = self.timeline.number
                self.timeline.add_all(parse_lines(lines))
                self.version += self.timeline.number != before
            return self.version


@lru_cache(maxsize=READERS)
def timeline_reader(events: Path) -> TimelineReader:
    """Return the shared reader of an event file; the least recently used ones are dropped."""
    return TimelineReader(events)


TAIL_BYTES = 65_536
# A long evaluation writes many phase events and no step.
LONG_TAIL_BYTES = 2**22


def tail_timeline(path: Path) -> Timeline:
    """Return the timeline of the newest events, at least those since the newest step."""
    timeline = Timeline()
    for limit in (TAIL_BYTES, LONG_TAIL_BYTES):
        records = tail_events(path, limit)
        timeline = Timeline().add_all(records)
        if any(record.kind in (StepEvent.kind, ResumedEvent.kind) for record in records):
            break
    return timeline
