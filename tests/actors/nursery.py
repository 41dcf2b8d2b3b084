"""Imports the training stack once and forks a real worker for every run it is handed.

It hears {"run": folder, "point": …, "deed": …, "nth": …} and answers {"pid": …}. Each child leads
a session of its own, writes to its run's log, and is the worker from there on.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import points

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from modelforge.train import environment
from modelforge.train.worker import preload, run_worker

DEEDS = {
    "kill": points.kill_myself,
    "fill": lambda run: points.fill_the_disk(run.parents[1]),
    "cuda": lambda _run: points.run_out_of_cuda,
    "host": lambda _run: points.limit_memory(),
    "small-card": lambda _run: points.shrink(points.run_out_of_cuda),
    "small-host": lambda _run: points.shrink(points.run_out_of_host),
}


def work(asked: dict) -> int:
    """Be the worker of one run."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    run = Path(asked["run"])
    log = os.open(run / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(asked.get("environment") or {})
    if asked.get("deed") == "note":
        for point in points.POINTS:
            points.arm(point, lambda point=point: print(f"passed: {point}", flush=True))
    elif asked.get("point"):
        points.arm(asked["point"], DEEDS[asked["deed"]](run), asked.get("nth", 1))
    code = run_worker(run)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def main() -> None:
    """Fork until nobody asks any more."""
    environment.configure_process()
    preload()
    from modelforge.modeling.tokenize import dataset  # noqa: F401
    from modelforge.train import save  # noqa: F401
    from modelforge.train.callbacks import reporter  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print(json.dumps({"ready": True}), flush=True)
    while line := sys.stdin.buffer.readline():
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = work(json.loads(line))
            finally:
                if sys.exc_info()[0] is not None:
                    traceback.print_exc()  # os._exit would hide it
                os._exit(code)
        print(json.dumps({"pid": pid}), flush=True)


main()
