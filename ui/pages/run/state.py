"""What the run page shows of a timeline: the log, the progress and the phase."""

from __future__ import annotations

from modelforge.runs.event_types import (
    EvalEvent,
    Event,
    FailedEvent,
    FinishedEvent,
    NoteEvent,
    PhaseEvent,
    ResumedEvent,
    SavedEvent,
    ScoresEvent,
    StartedEvent,
    StepEvent,
)
from modelforge.runs.timeline import Timeline
from ui.html import format as fmt

PHASES = {
    "loading": "Loading the model",
    "tokenizing": "Tokenizing",
    "training": "Training",
    "evaluating": "Evaluating",
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


def completed_share(timeline: Timeline) -> float | None:
    """Return the progress of the current work, from 0 to 1; None when unknown."""
    phase = timeline.phase
    if isinstance(timeline.ending, FinishedEvent):
        return 1.0
    if is_training(timeline) and timeline.stage.progress is not None:
        return timeline.stage.progress
    if phase is not None and phase.done is not None and phase.total:
        return min(1.0, phase.done / phase.total)
    return None


def stage_seconds_left(timeline: Timeline) -> float | None:
    """Return the time to the last step of the stage at its mean speed, evaluations included."""
    stage, updated = timeline.stage, timeline.updated
    if stage.first is None or updated is None or not stage.total_steps:
        return None
    steps, seconds = stage.step - stage.first[0], updated - stage.first[1]
    return (stage.total_steps - stage.step) * seconds / steps if steps > 0 else None


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
        case ScoresEvent():
            return f"scored on {fmt.plural(event.rows or 0, 'evaluation row')}"
        case SavedEvent():
            return f"saved {event.path}"
        case NoteEvent():
            return event.text
        case FailedEvent():
            return event.what or event.kind
    return event.kind
