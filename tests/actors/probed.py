"""A spare that answers probes and takes a run at any time, as the real one does.

What it does with a probe stands in the probe: `echo` it, `refuse` it, tell of `progress`, `hang`
after a word of progress, `crash`, or answer with the wrong number first (`confuse`).
"""

import json
import os
import sys

import stage

stage.drop_the_curtain()


def say(what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def answer(probe):
    number, kind = probe["id"], probe["kind"]
    if kind == "crash":
        sys.exit(3)
    if kind == "confuse":
        say({"probe": number - 1, "result": {"wrong": True}})
    if kind == "hang":
        say({"probe": number, "progress": {"done": 0, "total": 1}})
    if kind == "progress":
        for done in (1, 2):
            say({"probe": number, "progress": {"done": done, "total": 2}})
    if kind == "refuse":
        error = {"where": "row", "what": "There is no row 9.", "remedy": "Ask for another."}
        say({"probe": number, "error": error})
    elif kind != "hang":
        say({"probe": number, "result": {"echo": probe}})


say({"ready": True})
for line in sys.stdin:
    request = json.loads(line)
    if "probe" in request:
        answer(request["probe"])
        continue
    path = request["run"]
    say({"taken": True})
    log = os.open(os.path.join(path, "worker.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # noqa: PTH118
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdin.close()
    folder, events = stage.enter(path)
    stage.work_until_stopped(folder, events)
    break
