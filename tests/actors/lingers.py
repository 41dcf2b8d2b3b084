"""Finishes, and then hangs while it tears itself down."""

import signal

import stage

from modelforge.runs.event_types import FinishedEvent

signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder, events = stage.enter()
events.write(FinishedEvent(steps=0, seconds=0.1, output="output"))
stage.leave(folder, "finished")
stage.sleep_for_ever()
