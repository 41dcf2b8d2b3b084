"""Trains better the nearer its learning rate is to 3e-4, evaluates, stops when asked, and goes on.

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
reached = folder.path / "reached"


def stop_if_asked(step):
    if not folder.stop.exists():
        return
    kept = folder.stop.read_text(encoding="utf-8") == "keep"
    reached.write_text(str(step), encoding="utf-8")
    events.write(StoppedEvent(step=step, kept=kept))
    stage.leave(folder, "stopped")
    raise SystemExit


events.write(PlanEvent(total_steps=total))
begin = int(reached.read_text(encoding="utf-8")) if reached.exists() else 0
for step in range(begin + 1, total + 1):
    loss = 1 + distance + 1 / step
    if loss > 5:
        events.write(FailedEvent(cause="diverged", what="The loss is not a number.", remedy=""))
        stage.leave(folder, "failed", 1)
        raise SystemExit(1)
    events.write(StepEvent(step=step, loss=loss, total_steps=total))
    if step % record["plan"]["eval_steps"] == 0 or step == total:
        events.write(EvalEvent(step=step, loss=loss))
        time.sleep(PACE_S)
    stop_if_asked(step)
for _ in range(15):  # the model is saved, and a stop request still counts
    time.sleep(0.02)
    stop_if_asked(total)
events.write(FinishedEvent(steps=total, seconds=0.1, output="output", loss=loss, eval_loss=loss))
stage.leave(folder, "finished")
