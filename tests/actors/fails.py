"""Says why it fails."""

import sys

import stage

from modelforge.runs.event_types import FailedEvent

folder, events = stage.enter()
print("the traceback is here", file=sys.stderr)
events.write(FailedEvent(cause="out-of-memory", what="The GPU is full.", remedy="Shorten it."))
stage.leave(folder, "failed", 1)
sys.exit(1)
