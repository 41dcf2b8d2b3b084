"""Does three steps and finishes."""

import stage

from modelforge.runs.event_types import FinishedEvent, StepEvent

folder, events = stage.enter()
for step in range(1, 4):
    events.write(StepEvent(step=step, loss=1 / step))
events.write(FinishedEvent(steps=3, seconds=0.1, output="output", loss=0.3))
stage.leave(folder, "finished")
