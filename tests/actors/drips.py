"""Works in updates of the same size; in every other stretch it prints 1 MB a minute to stderr.

MODELFORGE_ACTOR_STRETCH_S is the length of a stretch, MODELFORGE_ACTOR_STRETCHES how many there
are. Each update says in which kind of stretch it was made.
"""

import os
import sys
import time

import stage

from modelforge.runs.event_types import FinishedEvent, StepEvent

STRETCH_S = float(os.environ.get("MODELFORGE_ACTOR_STRETCH_S", "1"))
STRETCHES = int(os.environ.get("MODELFORGE_ACTOR_STRETCHES", "6"))
BYTES_A_SECOND = 2**20 / 60
folder, events = stage.enter()
began, step, owed, last = time.monotonic(), 0, 0.0, time.monotonic()
while (spent := time.monotonic() - began) < STRETCH_S * STRETCHES and not folder.stop.exists():
    noisy = int(spent / STRETCH_S) % 2 == 1
    at, worked = time.perf_counter(), time.thread_time()
    for _ in range(20):
        sum(number * number for number in range(10_000))
    now = time.monotonic()
    if noisy:
        owed += (now - last) * BYTES_A_SECOND
        while owed >= 200:
            sys.stderr.write("#" * 199 + "\n")
            owed -= 200
    last = now
    step += 1
    seconds, cpu_s = time.perf_counter() - at, time.thread_time() - worked
    more = {"cpu_s": cpu_s, "noisy": noisy}
    event = StepEvent(step=step, loss=1.0, seconds=seconds, metrics=more)
    events.write(event)
events.write(FinishedEvent(steps=step, seconds=time.monotonic() - began, output="output"))
stage.leave(folder, "finished")
