"""Hears neither the stop file nor SIGTERM, and has a child that is as deaf."""

import signal
import subprocess
import sys
import time

import stage

from modelforge.runs.event_types import NoteEvent, StepEvent

signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
_folder, events = stage.enter()
events.write(NoteEvent(code="child", text=str(child.pid)))
step = 0
while True:
    step += 1
    events.write(StepEvent(step=step, loss=1.0))
    time.sleep(0.01)
