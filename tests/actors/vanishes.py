"""Starts, works, and is gone without a word."""

import os

import stage

from modelforge.runs.event_types import StepEvent

_folder, events = stage.enter()
events.write(StepEvent(step=1, loss=1.0))
os._exit(9)
