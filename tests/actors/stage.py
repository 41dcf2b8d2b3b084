"""What every stand-in worker needs: our package, a run folder, and an end if a test fails."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil

from modelforge.runs.atomic_files import write_json
from modelforge.runs.event_types import StartedEvent, StepEvent, StoppedEvent
from modelforge.runs.events import EventWriter
from modelforge.runs.layout import RunFolder

CURTAIN_S = float(os.environ.get("MODELFORGE_ACTOR_CURTAIN_S", "60"))


def enter(path: str | None = None) -> tuple[RunFolder, EventWriter]:
    """Return the run folder and a writer that has already said `started`."""
    drop_the_curtain()
    folder = RunFolder(Path(path or sys.argv[1]))
    events = EventWriter(folder.events)
    events.write(StartedEvent(pid=os.getpid(), birth=psutil.Process().create_time()))
    return folder, events


def drop_the_curtain() -> None:
    """See to it that no actor outlives a test for long."""
    timer = threading.Timer(CURTAIN_S, os._exit, [3])
    timer.daemon = True
    timer.start()


def leave(folder: RunFolder, state: str, code: int = 0) -> None:
    """Write the last act."""
    write_json(folder.exit, {"state": state, "code": code, "t": time.time()})


def work_until_stopped(folder: RunFolder, events: EventWriter) -> None:
    """Write steps until somebody asks to stop, then obey."""
    step = 0
    while not folder.stop.exists():
        step += 1
        events.write(StepEvent(step=step, loss=1 / step))
        time.sleep(0.01)
    kept = folder.stop.read_text(encoding="utf-8") == "keep"
    events.write(StoppedEvent(step=step, kept=kept))
    leave(folder, "stopped")


def sleep_for_ever() -> None:
    """Do nothing until the curtain falls."""
    while True:
        time.sleep(1)
