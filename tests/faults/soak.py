"""Many short runs one after the other: nothing may be left of them but their folders."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from modelforge.runs.layout import RunFolder
from modelforge.runs.states import read_facts
from tests.faults.place import Place, Tally, disorder, events_of, until
from tests.faults.serving import Server, serving

GROWTH = 1.10
# What a server holds after its first runs is what it needs; only growth after them is a leak.
WARM_RUNS = 5


def short_runs(place: Place, times: int, seed: int) -> Tally:
    """Have `times` short runs, each followed by a page, and count what the server holds."""
    tally = Tally("soak", seed)
    with (
        tempfile.TemporaryDirectory() as scratch,
        serving(place.home, TMPDIR=scratch) as server,
    ):
        held: dict[str, Any] = {}
        for number in range(times):
            began = time.monotonic()
            faults = _one(server, place)
            if faults:
                tally.add("a run", faults, seconds=round(time.monotonic() - began, 2))
            if number == min(WARM_RUNS, times - 1):
                held = _held(server, Path(scratch))
        time.sleep(1.5)  # lines of pages that have been left are noticed by then
        now = _held(server, Path(scratch))
        faults = [
            f"{name} grew from {held[name]} to {now[name]}"
            for name in ("children", "threads", "files_open", "temporary_files")
            if now[name] > held[name]
        ]
        if now["rss_mib"] > held["rss_mib"] * GROWTH:
            faults.append(f"memory grew from {held['rss_mib']} to {now['rss_mib']} MiB")
        grew = {f"{name}_before": value for name, value in held.items()}
        tally.add("the whole soak", faults, runs=times, **grew, **now)
    return tally


def _one(server: Server, place: Place) -> list[str]:
    run = RunFolder(place.home.runs / server.start_run(place.played_by("trains", 5, PACE=0.001)))
    until(lambda: server.run(run.id)["state"] == "finished", 30, "a run finishes")
    server.page(run.id)
    until(lambda: not read_facts(run).alive, 10, "its worker is gone")
    return disorder(events_of(run))


def _held(server: Server, scratch: Path) -> dict[str, Any]:
    process = psutil.Process(server.pid)
    return {
        "children": len(process.children(recursive=True)),
        "threads": process.num_threads(),
        "files_open": process.num_fds(),
        "temporary_files": sum(1 for _ in scratch.rglob("*")),
        "rss_mib": round(process.memory_info().rss / 2**20, 1),
    }
