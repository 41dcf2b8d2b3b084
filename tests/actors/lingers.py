"""Finishes, and then hangs while it tears itself down."""

import signal

import stage

signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder, events = stage.enter()
events.write("finished", steps=0, seconds=0.1, output="output")
stage.leave(folder, "finished")
stage.sleep_for_ever()
