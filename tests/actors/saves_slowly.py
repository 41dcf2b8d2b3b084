"""Obeys, but takes longer to save than the patience lasts."""

import time

import stage

from modelforge.runs.event_types import PhaseEvent, StepEvent, StoppedEvent

folder, events = stage.enter()
events.write(StepEvent(step=1, loss=1.0))
while not folder.stop.exists():
    time.sleep(0.01)
events.write(PhaseEvent(name="saving", text="Saving"))
time.sleep(1.5)
events.write(StoppedEvent(step=1, kept=True))
stage.leave(folder, "stopped")
