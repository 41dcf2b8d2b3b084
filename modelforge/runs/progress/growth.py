"""The stages of a growing model: what is done, what trains now and what is to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from modelforge.config.plan.growing import PlannedStage
from modelforge.config.plan.make import Plan
from modelforge.config.schema.base import about
from modelforge.runs.event_types import FinishedEvent
from modelforge.runs.progress.measured_events import GainEvent
from modelforge.runs.timeline import Stage, Timeline


@dataclass(frozen=True, kw_only=True)
class GrowthStage:
    """A stage of a growing model; layers are numbered as in the model of the stage, from 0."""

    number: Annotated[int, about("Number of the stage, from 1.")]
    name: Annotated[str, about("Name of the stage.")]
    state: Annotated[Literal["done", "now", "to-come"], about("Whether it is done.")]
    layers: Annotated[int, about("Layers of the model in this stage.")]
    new: Annotated[list[int], about("Layers that it adds; empty in the joint stage.")]
    trained: Annotated[list[int], about("Layers with weights or adapters that train.")]
    frozen: Annotated[list[int], about("Layers in which nothing trains.")]
    adapters: Annotated[dict[str, list[int]], about("Layers by the name of an adapter.")]
    trained_parameters: Annotated[int | None, about("Weights that train.")] = None
    step: Annotated[int, about("Newest step.")] = 0
    steps: Annotated[int | None, about("Optimizer steps.")] = None
    eval_loss: Annotated[float | None, about("Best evaluation loss, or the newest.")] = None


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The stages of a growing model, and what growing has given so far."""

    stages: Annotated[list[GrowthStage], about("The stages, in their order.")]
    base_loss: Annotated[float | None, about("Evaluation loss before growing.")] = None
    gain: Annotated[float | None, about("How much lower the evaluation loss is by now.")] = None
    gain_low: Annotated[float | None, about("Low end of its 95 % interval.")] = None
    gain_high: Annotated[float | None, about("High end of that interval.")] = None
    gain_stage: Annotated[int | None, about("The stage after which it was measured.")] = None


def growth_of(plan: Plan, timeline: Timeline) -> Growth | None:
    """Return the growth of a run; None for other runs, and while its layers are unknown."""
    if plan.growing is None or not plan.growing.stages:
        return None
    known = {stage.number: stage for stage in timeline.stages if stage.plan or stage.step}
    is_finished = isinstance(timeline.ending, FinishedEvent)
    stages = [
        _stage(number, planned, known, is_finished=is_finished)
        for number, planned in enumerate(plan.growing.stages, 1)
    ]
    gain, first = timeline.newest(GainEvent), known.get(1)
    curve = first.eval["loss"] if first else ()
    base = next((loss for step, loss in curve if step == 0), None)
    if gain is None:
        return Growth(stages=stages, base_loss=base)
    return Growth(
        stages=stages,
        base_loss=gain.before,
        gain=gain.before - gain.after,
        gain_low=gain.low,
        gain_high=gain.high,
        gain_stage=gain.stage,
    )


def _stage(
    number: int, planned: PlannedStage, known: dict[int, Stage], *, is_finished: bool
) -> GrowthStage:
    now = max(known, default=0)
    is_done = number < now or (number == now and is_finished)
    stage = known.get(number)
    loss = None
    if stage is not None:
        loss = stage.best[1] if stage.best else stage.last_eval("loss")
    return GrowthStage(
        number=number,
        name=planned.name,
        state="done" if is_done else "now" if number == now else "to-come",
        layers=planned.layers,
        new=planned.new_layers,
        trained=planned.trained_layers,
        frozen=planned.frozen_layers,
        adapters=planned.adapters,
        trained_parameters=planned.trained,
        step=stage.step if stage else 0,
        steps=(stage.total_steps if stage else None) or planned.steps,
        eval_loss=loss,
    )
