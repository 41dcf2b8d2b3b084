"""The stages of a growing model, for the actor that plays a training."""

import math
import time
from typing import Any

from modelforge.runs.event_types import EvalEvent, PhaseEvent, PlanEvent, StepEvent
from modelforge.runs.progress.measured_events import GainEvent, GrowthEvent

START = 2.4


def stages(planned: dict[str, Any], events: Any, pace_s: float, stop: Any) -> int:
    """Write the events of all stages and return their steps.

    `stop(step, stage)` ends the run where that is requested.
    """
    count, made = len(planned["stages"]), 0
    for number, stage in enumerate(planned["stages"], 1):
        steps = stage["steps"] or 6
        events.write(
            GrowthEvent(stage=number, stages=count, name=stage["name"], layers=stage["layers"],
            new=stage["new_layers"], trained=stage["trained_layers"],
            frozen=stage["frozen_layers"], adapters=stage["adapters"],
        ))  # fmt: skip
        events.write(
            PlanEvent(total_steps=steps, stage=number, stages=count, stage_name=stage["name"],
            trainable_parameters=stage["trained"], device="cpu", precision="fp32",
        ))  # fmt: skip
        events.write(PhaseEvent(name="training", text="Training"))
        before = START - 0.2 * (number - 1)
        if number == 1:
            events.write(EvalEvent(step=0, loss=before, stage=1))
        for step in range(1, steps + 1):
            stop(step, number)
            time.sleep(pace_s)
            fallen = 0.2 * (1 - math.exp(-3 * step / steps)) / (1 - math.exp(-3))
            loss = before - fallen
            events.write(
                StepEvent(step=step, loss=loss, learning_rate=1e-4, tokens=480, tokens_per_s=410.0,
                seconds=pace_s, cpu_percent=96.0, ram_gib=1.0 + 0.1 * number, stage=number,
            ))  # fmt: skip
            if step < steps and step % max(1, steps // 3) == 0:
                events.write(EvalEvent(step=step, loss=loss + 0.01, best=True, stage=number))
        held = before - 0.2
        events.write(EvalEvent(step=steps, loss=held, best=True, stage=number))
        low, high = START - held - 0.05, START - held + 0.05
        events.write(
            GainEvent(stage=number, before=START, after=held, low=low, high=high, batches=40)
        )
        made += steps
    return made


def end(planned: dict[str, Any]) -> float:
    """Return the evaluation loss after the last stage."""
    return START - 0.2 * len(planned["stages"])
