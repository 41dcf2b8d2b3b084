"""The progress and the result of a run in words."""

from __future__ import annotations

from modelforge.diagnosis.verdict import Outcome, Verdict, judge
from modelforge.runs.event_types import FailedEvent, FinishedEvent, StoppedEvent
from modelforge.runs.timeline import Timeline
from ui.html import format as fmt
from ui.pages.run.state import is_training, phase_text


def progress_line(timeline: Timeline) -> str:
    """Return what the worker does: `step 71 of 154 · epoch 1.4 of 3`."""
    phase, stage = timeline.phase, timeline.stage
    if not is_training(timeline) and timeline.ending is None:
        text = phase_text(timeline)
        if phase is not None and phase.done is not None and phase.total:
            text = f"{text} · {fmt.number(phase.done)} of {fmt.number(phase.total)}"
        return text
    of_steps = f" of {fmt.number(stage.total_steps)}" if stage.total_steps else ""
    parts = [f"step {stage.step:,}{of_steps}"]
    if stage.epoch is not None:
        epochs = stage.plan.epochs if stage.plan else None
        of_epochs = f" of {epochs:.1f}".removesuffix(".0") if epochs else ""
        parts.append(f"epoch {stage.epoch:.1f}{of_epochs}")
    if phase is not None and phase.name == "evaluating":
        parts.append("evaluating")
    return " · ".join(parts)


def judged(timeline: Timeline) -> Verdict:
    """Return the verdict on a run from its metrics, samples, scores and ending."""
    return judge(Outcome.of(timeline))


def verdict_text(timeline: Timeline) -> str:
    """Return how the run went in a few sentences; empty while it is active."""
    match timeline.ending:
        case None:
            return ""
        case FailedEvent() as ending:
            return f"{ending.what} {ending.remedy}".strip()
        case StoppedEvent():
            return stopped_text(timeline)
    return f"{duration_text(timeline)} {judged(timeline).text}"


def duration_text(timeline: Timeline) -> str:
    """Return the steps and the duration of a finished run, as in `212 steps in 45 s`."""
    ending = timeline.ending
    finished = ending if isinstance(ending, FinishedEvent) else FinishedEvent()
    steps = fmt.plural(finished.steps or timeline.stage.step, "step")
    # A resumed run took longer than its last worker reports.
    seconds = timeline.seconds_taken or finished.seconds
    return f"{steps} in {fmt.duration(seconds)}."


def stopped_text(timeline: Timeline) -> str:
    """Return when a run was stopped, and whether its weights are kept."""
    ending = timeline.ending
    stopped = ending if isinstance(ending, StoppedEvent) else StoppedEvent()
    kept = "The weights trained so far are kept." if stopped.kept else "Nothing is kept."
    return f"Stopped after {fmt.plural(stopped.step or timeline.stage.step, 'step')}. {kept}"
