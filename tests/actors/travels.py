"""Trains in steps with a checkpoint each, and resumes to the same bytes.

Its evaluation loss is the lower the nearer its learning rate is to 3e-4. Beyond step 5 it waits
while there is a file `hold` in the home.
"""

import hashlib
import json
import math
import shutil
import time
from pathlib import Path

import stage

from modelforge.runs import checkpoints
from modelforge.runs.atomic_files import find_json
from modelforge.runs.event_types import (
    EvalEvent,
    FinishedEvent,
    PlanEvent,
    ResumedEvent,
    StepEvent,
    StoppedEvent,
)

folder, events = stage.enter()
print("the worker begins", flush=True)
record = json.loads(folder.config.read_text(encoding="utf-8"))
plan = record["plan"]
total = plan["total_steps"]
# As the real worker: it reads what the record names.
rows = b"".join(
    Path(file).read_bytes() for source in record["dataset"]["sources"] for file in source["files"]
)
found, _damaged = checkpoints.newest_valid(folder)
step, weights = 0, hashlib.sha256(rows).hexdigest()
if found:
    step, weights = found.step, (found.path / "adapter_model.safetensors").read_text()
    events.write(ResumedEvent(step=step, stage=None, checkpoint=found.name))
elif (find_json(folder.process) or {}).get("after"):
    events.write(ResumedEvent(step=0, stage=None))
events.write(PlanEvent(total_steps=total))


def save(target):
    target.mkdir(parents=True, exist_ok=True)
    (target / "adapter_model.safetensors").write_text(weights)
    config = {"base_model_name_or_path": plan["model_path"]}
    (target / "adapter_config.json").write_text(json.dumps(config))
    (target / "trainer_state.json").write_text("{}")


hold = folder.path.parents[1] / "hold"
while step < total:
    while step >= 5 and hold.exists() and not folder.stop.exists():
        time.sleep(0.05)
    if folder.stop.exists():
        kept = folder.stop.read_text() == "keep"
        if kept:
            save(folder.output)
        events.write(StoppedEvent(step=step, kept=kept))
        stage.leave(folder, "stopped")
        raise SystemExit
    step += 1
    weights = hashlib.sha256(f"{weights} {step}".encode()).hexdigest()
    staged = folder.checkpoints / f".staged-checkpoint-{step}"
    save(staged)
    # As the real worker: a checkpoint without a manifest is not one.
    shutil.rmtree(folder.checkpoints / f"checkpoint-{step}", ignore_errors=True)
    checkpoints.write_manifest(
        staged.rename(folder.checkpoints / f"checkpoint-{step}"), step=step, stage=None
    )
    events.write(StepEvent(step=step, loss=1 / step, total_steps=total))
    if plan["eval_steps"] and step % plan["eval_steps"] == 0:
        distance = abs(math.log10(record["config"].get("learning_rate", 2e-4) / 3e-4))
        events.write(EvalEvent(step=step, loss=1 + distance + 1 / step))
    time.sleep(0.02)
save(folder.output)
events.write(FinishedEvent(steps=total, seconds=0.1, output="output", loss=1 / total))
stage.leave(folder, "finished")
