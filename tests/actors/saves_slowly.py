"""Obeys, but takes longer to save than the patience lasts."""

import time

import stage

folder, events = stage.enter()
events.write("step", step=1, loss=1.0)
while not folder.stop.exists():
    time.sleep(0.01)
events.write("phase", name="saving", text="Saving")
time.sleep(1.5)
events.write("stopped", step=1, kept=True)
stage.leave(folder, "stopped")
