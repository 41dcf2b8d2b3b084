"""Goes on from its newest checkpoint, saves one at every step until stopped, and three at most."""

import time

import stage

from modelforge.runs import checkpoints
from modelforge.runs.event_types import FinishedEvent, ResumedEvent, StepEvent

folder, events = stage.enter()
found, damaged = checkpoints.newest_valid(folder)
step = found.step if found else 0
if step:
    damaged_files = [{"name": each.name, "why": each.why} for each in damaged]
    events.write(ResumedEvent(step=step, stage=None, checkpoint=found.name, damaged=damaged_files))
end = step + 3
while step < end and not folder.stop.exists():
    step += 1
    events.write(StepEvent(step=step, loss=1 / step, total_steps=end))
    made = folder.checkpoints / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "trainer_state.json").write_text("{}", encoding="utf-8")
    checkpoints.write_manifest(made, step=step, stage=None)
    time.sleep(0.01)
if step == 3:
    # The first time it is killed by its system and says nothing.
    raise SystemExit(9)
events.write(FinishedEvent(steps=step, seconds=0.1, output="output"))
stage.leave(folder, "finished")
