"""Prints lines without end between its updates, as MODELFORGE_ACTOR_LINES says, then finishes."""

import os
import sys
import time

import stage

from modelforge.runs.event_types import FinishedEvent, StepEvent

LINES = int(os.environ.get("MODELFORGE_ACTOR_LINES", "100000"))
UPDATES = 20
folder, events = stage.enter()
began = time.monotonic()
for step in range(1, UPDATES + 1):
    events.write(StepEvent(step=step, total_steps=UPDATES, loss=1 / step, seconds=0.0))
    for line in range(LINES // UPDATES):
        sys.stderr.write(f"update {step:2d} line {line:9d} {'.' * 174}\n")
seconds = time.monotonic() - began
print("the last line", flush=True)
# Some seconds more, so that whoever looks after the log does so while it is written to.
time.sleep(float(os.environ.get("MODELFORGE_ACTOR_REST_S", "0")))
events.write(FinishedEvent(steps=UPDATES, seconds=seconds, output="output", loss=0.1))
stage.leave(folder, "finished")
