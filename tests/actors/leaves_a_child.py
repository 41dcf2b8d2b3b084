"""Starts a child that does not hear, says who it is, and works until it is asked to stop."""

import signal
import subprocess
import sys

import stage

from modelforge.runs.event_types import NoteEvent

signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
folder, events = stage.enter()
events.write(NoteEvent(code="child", text=str(child.pid)))
stage.work_until_stopped(folder, events)
