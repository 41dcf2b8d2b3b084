"""Works until it is asked to stop, and then stops."""

import stage

folder, events = stage.enter()
print("working", flush=True)
stage.work_until_stopped(folder, events)
