"""Its clock is set by MODELFORGE_ACTOR_JUMP_S in mid-run, as somebody at the machine might."""

import os
import time

import stage

from modelforge.runs.event_types import FinishedEvent, PhaseEvent, PlanEvent, StepEvent

JUMP_S = float(os.environ.get("MODELFORGE_ACTOR_JUMP_S", "-86400"))
UPDATES = 20
folder, events = stage.enter()
real_time = time.time
events.write(PlanEvent(total_steps=UPDATES, epochs=1.0, train_rows=1, eval_rows=0,
             trainable_parameters=1, total_parameters=1, device="cpu", precision="fp32",
             quantization="none", max_length=8))  # fmt: skip
events.write(PhaseEvent(name="training", text="Training", done=0, total=UPDATES))
for step in range(1, UPDATES + 1):
    if step == UPDATES // 2:
        time.time = lambda: real_time() + JUMP_S
    time.sleep(0.05)
    events.write(StepEvent(step=step, total_steps=UPDATES, epoch=step / UPDATES, loss=1 / step,
                 learning_rate=0.1, tokens=10, tokens_per_s=200.0, seconds=0.05))  # fmt: skip
events.write(FinishedEvent(steps=UPDATES, seconds=1.0, output="output", loss=0.1))
stage.leave(folder, "finished")
