"""Starts, works, and is gone without a word."""

import os

import stage

_folder, events = stage.enter()
events.write("step", step=1, loss=1.0)
os._exit(9)
