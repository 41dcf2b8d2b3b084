"""Does three steps and finishes."""

import stage

folder, events = stage.enter()
for step in range(1, 4):
    events.write("step", step=step, loss=1 / step)
events.write("finished", steps=3, seconds=0.1, output="output", loss=0.3)
stage.leave(folder, "finished")
