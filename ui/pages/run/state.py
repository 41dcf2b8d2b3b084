"""What the run page shows of a timeline in words: log, phase, progress and result."""

from __future__ import annotations

from modelforge.diagnosis.verdict import Outcome, Verdict, judge
from modelforge.runs.event_fields import Event
from modelforge.runs.event_types import (
    EvalEvent,
    FailedEvent,
    FinishedEvent,
    NoteEvent,
    PhaseEvent,
    ResumedEvent,
    SavedEvent,
    ScoresEvent,
    StartedEvent,
    StepEvent,
    StoppedEvent,
)
from modelforge.runs.progress.measured_events import CoreEvent
from modelforge.runs.progress.whole_run import whole_run
from modelforge.runs.timeline import Timeline
from ui.html import format as fmt

PHASES = {
    "loading": "Loading the model",
    "tokenizing": "Tokenizing",
    "training": "Training",
    "evaluating": "Evaluating",
    "sampling": "Answering the sample prompts",
    "core": "Scoring on CORE",
    "saving": "Saving",
    "trial_run": "Trial run",
}


def log_lines(timeline: Timeline) -> list[str]:
    """Return the newest lines of the log."""
    return [
        f"{fmt.time_of_day(t)}  {line}" for t, event in timeline.recent for line in _lines(event)
    ]


def phase_text(timeline: Timeline) -> str:
    """Return the current phase in words."""
    return _phase_text(timeline.phase) if timeline.phase else ""


def is_training(timeline: Timeline) -> bool:
    """Return whether training steps are made, or evaluated in between."""
    return timeline.phase is not None and timeline.phase.name in ("training", "evaluating")


def completed_share(timeline: Timeline, planned_steps: int | None = None) -> float | None:
    """Return the progress, from 0 to 1: of the steps once they began, before of the current phase.

    None when it is unknown. After the last step it stays at 1 while answers are scored and saved.
    In a run with stages it is that of all stages, of which the last has `planned_steps`.
    """
    phase, steps = timeline.phase, _steps_share(timeline, planned_steps)
    if isinstance(timeline.ending, FinishedEvent):
        return 1.0
    if steps is not None and (is_training(timeline) or timeline.ending is not None or steps == 1):
        return steps
    if phase is not None and phase.done is not None and phase.total:
        return min(1.0, phase.done / phase.total)
    return None


def _steps_share(timeline: Timeline, planned_steps: int | None) -> float | None:
    stage = timeline.stage
    if not timeline.stage_count or not planned_steps or not stage.total_steps:
        return stage.progress
    before = sum(earlier.total_steps or 0 for earlier in timeline.stages[:-1])
    later = planned_steps if stage.number < timeline.stage_count else 0
    return min(1.0, (before + stage.step) / (before + stage.total_steps + later))


def stage_seconds_left(timeline: Timeline) -> float | None:
    """Return the time to the last step of the stage at its mean speed, evaluations included."""
    stage, updated = timeline.stage, timeline.updated
    if stage.first is None or updated is None or not stage.total_steps:
        return None
    steps, seconds = stage.step - stage.first[0], updated - stage.first[1]
    return (stage.total_steps - stage.step) * seconds / steps if steps > 0 else None


def progress_line(timeline: Timeline, planned_steps: int | None = None) -> str:
    """Return what the worker does: `step 71 of 154 · epoch 1.4 of 3`.

    While stages before the last one are trained, the last one has `planned_steps`: `step 7 of
    18 + 6`.
    """
    phase, stage = timeline.phase, timeline.stage
    if not is_training(timeline) and timeline.ending is None:
        text = phase_text(timeline)
        if phase is not None and phase.done is not None and phase.total:
            text = f"{text} · {fmt.progress(phase.done, phase.total)}"
        return text
    is_early = stage.number < (timeline.stage_count or 0)
    later = f" + {planned_steps:,}" if is_early and stage.total_steps and planned_steps else ""
    parts = [f"step {fmt.progress(stage.step, stage.total_steps)}{later}"]
    if stage.epoch is not None:
        epochs = stage.plan.epochs if stage.plan else None
        parts.append(f"epoch {fmt.progress(stage.epoch, epochs, 1)}")
    if phase is not None and phase.name == "evaluating" and timeline.ending is None:
        parts.append("evaluating")
    return " · ".join(parts)


def judged(timeline: Timeline) -> Verdict:
    """Return the verdict on a run from its metrics, samples, scores and ending."""
    return judge(Outcome.of(timeline))


def verdict_text(timeline: Timeline, seconds: float, resumable: str = "") -> str:
    """Return how the run of this duration went in a few sentences; empty while it is active.

    `resumable` is what is kept of a stopped run without a model.
    """
    match timeline.ending:
        case None:
            return ""
        case FailedEvent() as ending:
            return f"{ending.what} {ending.remedy}".strip()
        case StoppedEvent():
            return stopped_text(timeline, resumable)
    return f"{duration_text(timeline, seconds)} {judged(timeline).text}"


def duration_text(timeline: Timeline, seconds: float) -> str:
    """Return the steps and the duration of a finished run, as in `212 steps in 45 s`."""
    ending = timeline.ending
    finished = ending if isinstance(ending, FinishedEvent) else FinishedEvent()
    # Early releases counted the steps of the last stage of a growing model alone.
    steps = fmt.plural(max(finished.steps or 0, whole_run(timeline).step), "step")
    return f"{steps} in {fmt.duration(seconds)}."


def stopped_text(timeline: Timeline, resumable: str = "") -> str:
    """Return when a run was stopped, and what is kept: its weights, else `resumable`."""
    ending = timeline.ending
    stopped = ending if isinstance(ending, StoppedEvent) else StoppedEvent()
    kept = "The weights trained so far are kept." if stopped.kept else resumable
    stage = f" of stage {stopped.stage}" if stopped.stage else ""
    steps = fmt.plural(stopped.step or (0 if stage else timeline.stage.step), "step")
    return f"Stopped after {steps}{stage}. {kept or 'Nothing is kept.'}"


def _phase_text(event: PhaseEvent) -> str:
    return event.text or PHASES.get(event.name, event.name)


def _lines(event: Event) -> list[str]:
    """Return the log lines of an event."""
    if isinstance(event, ResumedEvent):
        skipped = (f"{one.get('name')} was skipped: {one.get('why')}" for one in event.damaged)
        return [f"resumed from step {event.step:,}", *skipped]
    return [_line(event)]


def _line(event: Event) -> str:
    match event:
        case StepEvent():
            return (
                f"step {event.step}  loss {fmt.number(event.loss, 3)}  "
                f"learning rate {fmt.compact(event.learning_rate)}  "
                f"{fmt.number(event.tokens_per_s)} tokens/s"
            )
        case StartedEvent():
            return "the worker started"
        case PhaseEvent():
            text = _phase_text(event)
            return text[:1].lower() + text[1:]
        case EvalEvent():
            best = " (best so far, kept)" if event.best else ""
            return f"evaluation loss {fmt.number(event.loss, 3)}{best}"
        case CoreEvent():
            return f"step {event.step}  CORE {fmt.number(event.score, 3)}"
        case ScoresEvent():
            return f"scored on {fmt.plural(event.rows or 0, 'evaluation row')}"
        case SavedEvent():
            return f"saved {event.path}"
        case NoteEvent():
            return event.text
        case FailedEvent():
            return event.what or event.kind
    return event.kind
