"""Trains better the nearer its learning rate is to 3e-4, evaluates, and stops when asked.

MODELFORGE_ACTOR_PACE is the seconds between two evaluations.
"""

import json
import math
import os
import time

import stage

from modelforge.runs.event_types import (
    EvalEvent,
    FailedEvent,
    FinishedEvent,
    PlanEvent,
    StepEvent,
    StoppedEvent,
)

PACE_S = float(os.environ.get("MODELFORGE_ACTOR_PACE", "0.05"))
folder, events = stage.enter()
record = json.loads(folder.config.read_text(encoding="utf-8"))
config, total = record["config"], record["plan"]["total_steps"]
distance = abs(math.log10(config["learning_rate"] / 3e-4))
events.write(PlanEvent(total_steps=total))
for step in range(1, total + 1):
    if folder.stop.exists():
        events.write(StoppedEvent(step=step, kept=False))
        stage.leave(folder, "stopped")
        raise SystemExit
    loss = 1 + distance + 1 / step
    if loss > 5:
        events.write(FailedEvent(cause="diverged", what="The loss is not a number.", remedy=""))
        stage.leave(folder, "failed", 1)
        raise SystemExit(1)
    events.write(StepEvent(step=step, loss=loss, total_steps=total))
    if step % record["plan"]["eval_steps"] == 0 or step == total:
        events.write(EvalEvent(step=step, loss=loss))
        time.sleep(PACE_S)
for _ in range(15):  # the model is saved, and a stop request still counts
    time.sleep(0.02)
    if folder.stop.exists():
        events.write(StoppedEvent(step=total, kept=False))
        stage.leave(folder, "stopped")
        raise SystemExit
events.write(FinishedEvent(steps=total, seconds=0.1, output="output", loss=loss, eval_loss=loss))
stage.leave(folder, "finished")
