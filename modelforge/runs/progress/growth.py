"""The stages of a growing model: what is done, what trains now and what is to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from modelforge.config.plan.growing import PlannedStage
from modelforge.config.plan.make import Plan
from modelforge.config.schema.base import Gib, about
from modelforge.runs.event_types import FinishedEvent, StoppedEvent
from modelforge.runs.progress.measured_events import GainEvent
from modelforge.runs.timeline import Stage, Timeline

StageState = Literal["done", "now", "stopped", "to-come"]


@dataclass(frozen=True, kw_only=True)
class GrowthStage:
    """A stage of a growing model; layers are numbered as in the model of the stage, from 0."""

    number: Annotated[int, about("Number of the stage, from 1.")]
    name: Annotated[str, about("Name of the stage.")]
    state: Annotated[StageState, about("Whether it is done; stopped before its last step.")]
    layers: Annotated[int, about("Layers of the model in this stage.")]
    new: Annotated[list[int], about("Layers that it adds; empty in the joint stage.")]
    trained: Annotated[list[int], about("Layers with weights or adapters that train.")]
    frozen: Annotated[list[int], about("Layers in which nothing trains.")]
    adapters: Annotated[dict[str, list[int]], about("Layers by the name of an adapter.")]
    trained_parameters: Annotated[int | None, about("Weights that train.")] = None
    step: Annotated[int, about("Newest step.")] = 0
    steps: Annotated[int | None, about("Optimizer steps.")] = None
    eval_loss: Annotated[float | None, about("Best evaluation loss, or the newest.")] = None
    memory_gib: Annotated[Gib, about("Planned memory.")] = None
    memory_parts: Annotated[dict[str, float], about("GiB of its parts, by name.")] = field(
        default_factory=dict
    )
    peak_gib: Annotated[Gib, about("Most memory measured at a step.")] = None
    planned_seconds: Annotated[float | None, about("Planned seconds of its steps.")] = None
    seconds: Annotated[
        float | None,
        about("Seconds that it has taken, with evaluations and saving; null before its start."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The stages of a growing model, and what growing has given so far."""

    stages: Annotated[list[GrowthStage], about("The stages, in their order.")]
    base_loss: Annotated[float | None, about("Evaluation loss before growing.")] = None
    gain: Annotated[float | None, about("How much lower the evaluation loss is by now.")] = None
    gain_low: Annotated[float | None, about("Low end of its 95 % interval.")] = None
    gain_high: Annotated[float | None, about("High end of that interval.")] = None
    gain_stage: Annotated[int | None, about("The stage after which it was measured.")] = None
    at_once_gib: Annotated[Gib, about("Planned memory of all new layers in one stage.")] = None


def growth_of(
    plan: Plan,
    timeline: Timeline,
    report: Mapping[str, Any] | None = None,
    *,
    is_over: bool = False,
) -> Growth | None:
    """Return the growth of a run; None for other runs, and while its layers are unknown.

    `report` is the stored preflight report, with memory and time of the stages.
    """
    if plan.growing is None or not plan.growing.stages:
        return None
    known = {stage.number: stage for stage in timeline.stages if stage.plan or stage.step}
    estimates = _estimates(report or {}, len(plan.growing.stages))
    stages = [
        replace(
            _stage(number, planned, known.get(number)),
            state=_state(number, max(known, default=0), timeline, is_over=is_over),
            **estimate,
        )
        for (number, planned), estimate in zip(
            enumerate(plan.growing.stages, 1), estimates, strict=True
        )
    ]
    at_once = (report or {}).get("at_once_gib")
    gain, first = timeline.newest(GainEvent), known.get(1)
    curve = first.eval["loss"] if first else ()
    base = next((loss for step, loss in curve if step == 0), None)
    if gain is None:
        return Growth(stages=stages, base_loss=base, at_once_gib=at_once)
    return Growth(
        stages=stages,
        base_loss=gain.before,
        gain=gain.before - gain.after,
        gain_low=gain.low,
        gain_high=gain.high,
        gain_stage=gain.stage,
        at_once_gib=at_once,
    )


def _state(number: int, now: int, timeline: Timeline, *, is_over: bool) -> StageState:
    """Return the state of a stage while `now` is the newest one that has begun."""
    ending = timeline.ending
    is_next = isinstance(ending, StoppedEvent) and ending.stage == now + 1
    if number < now or (number == now and (is_next or isinstance(ending, FinishedEvent))):
        return "done"
    if number > now:
        return "to-come"
    return "stopped" if is_over or ending is not None else "now"


def _estimates(report: Mapping[str, Any], count: int) -> Sequence[dict[str, Any]]:
    """Return what was planned for each stage; empty where the report has other stages."""
    stages = report.get("stages") or []
    if len(stages) != count:
        return [{}] * count
    return [
        {
            "memory_gib": stage.get("memory_gib"),
            "memory_parts": {part["name"]: part["gib"] for part in stage.get("memory") or ()},
            "planned_seconds": stage.get("seconds"),
        }
        for stage in stages
    ]


def _stage(number: int, planned: PlannedStage, stage: Stage | None) -> GrowthStage:
    """Return a stage to come, with what was measured where it has begun."""
    made = GrowthStage(
        number=number,
        name=planned.name,
        state="to-come",
        layers=planned.layers,
        new=planned.new_layers,
        trained=planned.trained_layers,
        frozen=planned.frozen_layers,
        adapters=planned.adapters,
        trained_parameters=planned.trained,
        steps=planned.steps,
    )
    if stage is None:
        return made
    return replace(
        made,
        step=stage.step,
        steps=stage.total_steps or planned.steps,
        eval_loss=stage.best[1] if stage.best else stage.last_eval("loss"),
        peak_gib=stage.peak_gib,
        seconds=round(stage.seconds, 3),
    )
