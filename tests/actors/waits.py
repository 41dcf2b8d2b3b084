"""A spare worker: noisy, ready, and obedient once it has a run.

With a word it is another one: `dies` ends as soon as it is ready, `drops` ends when it is handed
a run, `stares` takes no notice of it, `broken` ends before it is ready.
"""

import json
import os
import sys

import stage

stage.drop_the_curtain()
habit = sys.argv[1] if len(sys.argv) > 1 else ""
if habit == "broken":
    sys.exit(1)
print("a library says hello", flush=True)
print(json.dumps(["no", "object"]), flush=True)
print(json.dumps({"ready": True}), flush=True)
print("imports are done", file=sys.stderr, flush=True)
if habit == "dies":
    sys.exit(0)
line = sys.stdin.readline()
if not line or habit == "drops":
    sys.exit(0)
if habit == "stares":
    stage.sleep_for_ever()
path = json.loads(line)["run"]
print(json.dumps({"taken": True}), flush=True)
log = os.open(os.path.join(path, "worker.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # noqa: PTH118
os.dup2(log, 1)
os.dup2(log, 2)
os.close(log)
sys.stdin.close()
print("working", flush=True)
folder, events = stage.enter(path)
stage.work_until_stopped(folder, events)
