"""Workers that print without end, pages that are reloaded, tabs that are closed."""

from __future__ import annotations

import statistics
import time
from typing import Any

import psutil

from modelforge.runs.layout import RunFolder
from modelforge.runs.process.log_rotation import HEAD_BYTES, MAX_BYTES
from tests.faults.place import SLACK, Place, Tally, disorder, events_of, slower, steps_of, until
from tests.faults.serving import Follower, Server

GROWTH_MIB = 50.0
QUICK_S = 1.0 * SLACK
MINUTE_S = 60.0


def a_flood(server: Server, place: Place, times: int, seed: int, lines: int = 1_000_000) -> Tally:
    """Have `lines` lines of 200 bytes printed as fast as may be while a page looks on."""
    tally = Tally(f"a log of {lines:,} lines", seed)
    answers = place.played_by("floods", LINES=lines, REST_S=6.0, CURTAIN_S=600)
    for _ in range(times):
        server.page(warm := server.start_run(answers))
        run, before = RunFolder(place.home.runs / warm), _mib(server.pid)
        follower = Follower(server, run.id)
        most, slowest = before, 0.0
        while not follower.wait(0.05):
            began = time.monotonic()
            server.page(run.id)
            server.ask("GET", f"/api/runs/{run.id}/log?tail=65536")
            slowest = max(slowest, time.monotonic() - began)
            most = max(most, _mib(server.pid))
        faults = _flood_faults(run, follower)
        if most - before > GROWTH_MIB:
            faults.append(f"the server grew by {most - before:.0f} MiB")
        if slowest > QUICK_S:
            faults.append(f"page and log took {slowest:.2f} s")
        ending = events_of(run)[-1].data
        tally.add(
            "a flood", faults, flood_s=round(ending["seconds"], 2),
            server_grew_mib=round(most - before, 1), slowest_look_s=round(slowest, 3),
            log_mib=round(run.log.stat().st_size / 2**20, 1),
        )  # fmt: skip
    return tally


def _flood_faults(run: RunFolder, follower: Follower) -> list[str]:
    events = events_of(run)
    faults = disorder(events)
    if follower.state != "finished" or len(steps_of(events)) != 20:
        faults.append(f"the run is {follower.state} after {len(steps_of(events))} updates")
    if (size := run.log.stat().st_size) > MAX_BYTES:
        faults.append(f"the log has {size:,} bytes")
    with run.log.open("rb") as log:
        head = log.read(HEAD_BYTES // 2)
        log.seek(-200, 2)
        tail = log.read()
    if not head.startswith(b"update  1 line         0"):
        faults.append("the log has lost its beginning")
    if not tail.endswith(b"the last line\n"):
        faults.append("the log has lost its end")
    return faults


def a_closed_tab(
    server: Server, place: Place, stretches: int, seed: int, stretch_s: float = 15.0
) -> Tally:
    """Watch a run that prints 1 MB a minute in every other stretch, close the tab, and come back.

    Quiet and noisy stretches lie side by side in one run, so that both see the same weather.
    """
    tally = Tally(f"a tab closed for {stretch_s * stretches / MINUTE_S:.1f} minutes", seed)
    answers = place.played_by(
        "drips", STRETCH_S=stretch_s, STRETCHES=stretches, CURTAIN_S=stretch_s * stretches + 60
    )
    run = RunFolder(place.home.runs / server.start_run(answers))
    before = server.page(run.id)["state"]
    # No connection is open from here on: the tab is closed.
    until(lambda: _is_over(run), stretch_s * stretches + 30, "the run is over")
    began = time.monotonic()
    after = server.page(run.id)["state"]
    back_s = time.monotonic() - began
    updates = [event.data for event in events_of(run) if event.kind == "step"]
    printed = run.log.stat().st_size
    faults = disorder(events_of(run))
    if after != "finished":
        faults.append(f"the page shows {after}, and {before} before")
    if back_s > QUICK_S:
        faults.append(f"the page took {back_s:.2f} s to come back")
    tally.add("the whole run", faults, printed_kib=printed // 1024, back_s=round(back_s, 3))
    noise = _noise(updates)
    tally.add("step time", slower(noise["wall_ratio"]), updates=len(updates), **noise)
    return tally


def _noise(updates: list[dict[str, Any]]) -> dict[str, float]:
    shown_page = {}
    steps = [each | each["metrics"] for each in updates]
    for name in ("seconds", "cpu_s"):
        loud = statistics.median(each[name] for each in steps if each["noisy"])
        quiet = statistics.median(each[name] for each in steps if not each["noisy"])
        shown_page[f"{'wall' if name == 'seconds' else 'cpu'}_ratio"] = round(loud / quiet, 4)
    return shown_page


def reloads(server: Server, place: Place, times: int, seed: int) -> Tally:
    """Load the page of a run that goes on `times` times, dropping the line each time."""
    tally = Tally("reloads", seed)
    rng = tally.rng
    run = RunFolder(place.home.runs / server.start_run(place.played_by("trains", 2000, PACE=0.05)))
    until(lambda: steps_of(events_of(run)), 30, "the run has begun")
    for _ in range(times):
        time.sleep(rng.uniform(0.0, 0.2))
        made = steps_of(events_of(run))[-1]
        began = time.monotonic()
        status, _ = server.ask("GET", f"/?run={run.id}")
        shown_page = server.page(run.id)
        took = time.monotonic() - began
        faults = [] if status == 200 else [f"the page answers {status}"]
        if shown_page["state"] != "running":
            faults.append(f"the page shows {shown_page['state']}")
        shown = _update_in(shown_page)
        if shown is None or shown < made:
            faults.append(f"update {shown} is shown, {made} were made")
        if took > QUICK_S:
            faults.append("slow")
        tally.add("a reload", faults, seconds=round(took, 3))
    server.ask("POST", f"/api/runs/{run.id}/stop", {"keep": False})
    until(lambda: _is_over(run), 30, "the run is over")
    tally.add("the whole run", disorder(events_of(run)), lines_open=_open_lines(server.pid))
    return tally


def _update_in(shown_page: dict[str, Any]) -> int | None:
    text = str(shown_page["parts"].get("run-progress", ""))
    words = text.replace(",", "").split("step ")
    digits = words[1].split(" ")[0] if len(words) > 1 else ""
    return int(digits) if digits.isdecimal() else None


def _open_lines(pid: int) -> int:
    held = psutil.Process(pid).net_connections("tcp")
    return sum(line.status == psutil.CONN_ESTABLISHED for line in held)


def _is_over(run: RunFolder) -> bool:
    events = events_of(run)
    return bool(events) and events[-1].kind in ("finished", "stopped", "failed")


def _mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 2**20)
