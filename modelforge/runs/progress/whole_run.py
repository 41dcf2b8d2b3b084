"""A growing model as one training: its steps and curves run on through all its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from modelforge.config.plan.make import Plan
from modelforge.runs.event_types import FinishedEvent
from modelforge.runs.progress.downsample import Curve
from modelforge.runs.progress.measured_events import GrowthEvent
from modelforge.runs.progress.metrics import FullCurve
from modelforge.runs.timeline import Stage, Timeline


class Steps(NamedTuple):
    """Steps of a run: those that are done, and all there are; None while their number is unknown.

    `before` are those of the stages before the current one.
    """

    before: int
    done: int
    total: int | None


def run_steps(plan: Plan, timeline: Timeline) -> Steps:
    """Return the steps of a run: of all stages of a growing model, else of the current stage.

    The events may begin in a later stage: those before are taken to have made their planned steps.
    """
    stage, growing = timeline.stage, plan.growing
    current = stage.total_steps or plan.total_steps
    if growing is None or not growing.stages:
        return Steps(0, stage.step, current)
    planned = [each.steps for each in growing.stages]
    known = {each.number: each.step for each in timeline.stages if each.plan or each.step}
    number = min(stage.number, len(planned))
    earlier = enumerate(planned[: number - 1], 1)
    before = sum(known.get(place) or steps or 0 for place, steps in earlier)
    done, ending = before + stage.step, timeline.ending
    if isinstance(ending, FinishedEvent) and (ending.steps or 0) > stage.step:
        done = ending.steps or done
    of_stage, later = stage.total_steps or planned[number - 1], planned[number:]
    if of_stage is None or None in later:
        return Steps(before, done, None)
    return Steps(before, done, before + of_stage + sum(steps or 0 for steps in later))


def whole_run(timeline: Timeline, total_steps: int | None = None) -> Stage:
    """Return a run as one stage: of a growing model all stages in a row, else the current one.

    `total_steps` are those of all stages, where they are known.
    """
    now = timeline.stage
    if timeline.newest(GrowthEvent) is None:
        return now
    whole, before = Stage(new_curve=FullCurve), 0
    whole.name, whole.epoch, whole.first = now.name, now.epoch, now.first
    for stage in timeline.stages:
        _append(whole.train, stage.train, before)
        _append(whole.eval, stage.eval, before)
        if stage.best and (whole.best is None or stage.best[1] < whole.best[1]):
            whole.best = before + stage.best[0], stage.best[1]
        whole.step = before + stage.step
        before += stage.step
    if now.plan is not None:
        whole.plan = replace(now.plan, total_steps=total_steps or whole.step)
    return whole


def _append(curves: dict[str, Curve], more: Mapping[str, Curve], before: int) -> None:
    """Add curves of a stage behind those of earlier ones, which have made `before` steps."""
    for name, curve in more.items():
        target = curves.setdefault(name, FullCurve())
        for step, value in curve:
            target.append((before + step, value))
