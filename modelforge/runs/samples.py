"""Samples over time: the answers of a run to the same prompts before and during its training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from modelforge.config.schema.base import about
from modelforge.runs.events import EventRecord
from modelforge.runs.timeline import Stage, Timeline


@dataclass(frozen=True)
class SampleAnswer:
    """The greedy answer to one prompt."""

    prompt: str
    source: Annotated[str, about("`yours`, `evaluation` or `general`.")] = ""
    expected: Annotated[str, about("The answer of the evaluation row; empty if unknown.")] = ""
    text: str = ""
    tokens: Annotated[int, about("Tokens of the answer, without the end token.")] = 0
    cut: Annotated[bool, about("Whether the answer was cut off at the longest length.")] = False


@dataclass(frozen=True)
class SampleTime:
    """The answers to all prompts after one step; step 0 is the base model."""

    step: int
    epoch: Annotated[float | None, about("Passes over the training rows by then.")]
    eval_loss: Annotated[float | None, about("Evaluation loss after the same step.")]
    answers: list[SampleAnswer]
    seconds: Annotated[float | None, about("Time that answering took, in seconds.")] = None
    stage: Annotated[int | None, about("Training stage, in runs with stages.")] = None


def read_samples(events: Iterable[EventRecord]) -> list[SampleTime]:
    """Return the samples in all events of a run, oldest first.

    What a resumed run generated after its checkpoint is left out, since it is generated again.
    """
    return sample_times(Timeline().add_all(events))


def sample_times(timeline: Timeline) -> list[SampleTime]:
    """Return the samples of a run after the events so far, oldest first."""
    times = []
    for event in timeline.answers:
        stage = _stage_of(timeline, event.stage)
        losses = dict(stage.eval["loss"]) if stage is not None else {}
        answers = [_answer(data) for data in event.answers if isinstance(data, dict)]
        times.append(
            SampleTime(
                step=event.step,
                epoch=_epoch(stage, event.step),
                eval_loss=losses.get(event.step),
                answers=answers,
                seconds=event.seconds,
                stage=event.stage,
            )
        )
    return times


def _stage_of(timeline: Timeline, number: int | None) -> Stage | None:
    if number is None:
        return timeline.stage
    return next((stage for stage in timeline.stages if stage.number == number), None)


def _epoch(stage: Stage | None, step: int) -> float | None:
    if step == 0:
        return 0.0
    plan = stage.plan if stage is not None else None
    if plan is None or not plan.total_steps or plan.epochs is None:
        return None
    return round(step / plan.total_steps * plan.epochs, 2)


def _answer(data: dict[str, Any]) -> SampleAnswer:
    """Return an answer of an event, which may be of a file that someone changed."""
    known = {name: data[name] for name in SampleAnswer.__dataclass_fields__ if name in data}
    texts = {name: str(known.get(name) or "") for name in ("prompt", "source", "expected", "text")}
    tokens = known.get("tokens")
    count = tokens if isinstance(tokens, int) else 0
    return SampleAnswer(**texts, tokens=count, cut=known.get("cut") is True)
