"""The server is killed, and comes back: the run must not notice, and nothing may be missing."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modelforge.runs.layout import RunFolder
from modelforge.runs.process.identity import kill_tree
from modelforge.runs.states import read_facts
from tests.faults.place import SLACK, Place, Tally, disorder, events_of, slower, steps_of, until
from tests.faults.serving import Follower, Server

REATTACHED_S = 3.0 * SLACK
KILLS_A_RUN = 10
# From a folder that is there to a worker that is on record.
JUST_MADE_S = 0.03
BEGUN_S = 120.0
ENDED_S = 60.0


def in_mid_run(
    server: Server, place: Place, times: int, seed: int, *, answers: dict[str, Any], timed: bool
) -> Tally:
    """Kill the server `times` times, in several runs.

    What a run is sent over its stream must be what stands in its file, every number once. When
    they are `timed`, a run that is left alone goes before each, so that both see the same weather.
    """
    tally = Tally("server kills in mid-run", seed)
    rng = tally.rng
    paces = _Paces()
    done = 0
    while done < times:
        count = min(KILLS_A_RUN, times - done)
        if timed:
            paces.quiet.append(_one_run(server, place, answers, [0.0] * count))
        waits = [rng.uniform(0.0, 1.5) for _ in range(count)]
        paces.killed.append(_one_run(server, place, answers, waits, tally))
        done += count
    if timed:
        figures = paces.figures()
        tally.add("step time", slower(figures["wall_ratio"]), **figures)
    return tally


class _Paces:
    """Seconds and processor seconds of an update, with kills and without."""

    def __init__(self) -> None:
        self.quiet: list[tuple[float, float]] = []
        self.killed: list[tuple[float, float]] = []

    def figures(self) -> dict[str, Any]:
        """Return the ratios, run by run beside its neighbour, and their medians."""
        wall = [
            with_[0] / without[0] for with_, without in zip(self.killed, self.quiet, strict=True)
        ]
        work = [
            with_[1] / without[1] for with_, without in zip(self.killed, self.quiet, strict=True)
        ]
        return {
            "pairs": len(wall),
            "wall_ratio": round(statistics.median(wall), 4),
            "cpu_ratio": round(statistics.median(work), 4),
            "quiet_step_s": round(statistics.median(each[0] for each in self.quiet), 5),
            "killed_step_s": round(statistics.median(each[0] for each in self.killed), 5),
        }


def _one_run(
    server: Server,
    place: Place,
    answers: dict[str, Any],
    waits: list[float],
    tally: Tally | None = None,
) -> tuple[float, float]:
    """Have one run and kill its server after each wait; return seconds and work of an update.

    Without a tally the server is left alone for as long as it would have been away.
    """
    run_id = server.start_run(answers)
    run = RunFolder(place.home.runs / run_id)
    follower = Follower(server, run_id)
    with _ended_after_all(run):
        until(lambda: len(steps_of(events_of(run))) >= 5, BEGUN_S, "the run has begun")
        work, first = _work_of(run), len(steps_of(events_of(run)))
        for wait in waits:
            time.sleep(wait)
            if tally is None:
                time.sleep(2.5)  # about what a restart takes
            else:
                _one_kill(server, run, tally)
        steps = steps_of(events_of(run))
        work = (_work_of(run) - work) / max(1, len(steps) - first)
        server.ask("POST", f"/api/runs/{run_id}/stop", {"keep": True})
        until(lambda: server.run(run_id)["state"] == "stopped", ENDED_S, "the run is stopped")
        followed = follower.wait(ENDED_S)
    if tally is not None:
        _judge_the_whole(run, follower, followed, tally)
    seconds = [event.data["seconds"] for event in events_of(run) if event.kind == "step"]
    return statistics.median(seconds[5:]), work


def _one_kill(server: Server, run: RunFolder, tally: Tally) -> None:
    server.kill()
    seen = len(steps_of(events_of(run)))
    up_s = server.start()
    began = time.monotonic()
    figures = server.run(run.id)
    rest_s = time.monotonic() - began
    page = server.page(run.id)
    page_s = time.monotonic() - began
    faults = []
    if figures["state"] != "running" or page.get("state") != "running":
        faults.append(f"REST says {figures['state']}, the page {page.get('state')}")
    if figures["step"] < seen:
        faults.append(f"update {figures['step']} is shown, {seen} were made")
    if page_s > REATTACHED_S:
        faults.append("re-attached late")
    if len(steps_of(events_of(run))) <= seen:
        faults.append("the run stood still meanwhile")
    tally.add("kill", faults, up_s=round(up_s, 2), rest_s=round(rest_s, 3), page_s=round(page_s, 3))


def _judge_the_whole(run: RunFolder, follower: Follower, followed: bool, tally: Tally) -> None:
    events = events_of(run)
    faults = disorder(events)
    if not followed or follower.state != "stopped":
        faults.append(f"the stream ended with {follower.state}")
    if follower.numbers != [event.n for event in events]:
        faults.append(f"{len(follower.numbers)} events came over the stream of {len(events)}")
    if events[-1].kind != "stopped":
        faults.append(f"the last event is {events[-1].kind}")
    tally.add("the whole run", faults, events=len(events), updates=len(steps_of(events)))


def while_launching(
    server: Server, place: Place, times: int, seed: int, *, answers: dict[str, Any]
) -> Tally:
    """Kill the server at a random moment of a start; whoever clicked asks again with the same key.

    Every second kill comes just after the run's folder is there, which is the narrowest place.
    There must be one run then, with one worker, and it must go to its end.
    """
    tally = Tally("server kills while it launches", seed)
    rng = tally.rng
    took = _undisturbed(server, answers)
    for number in range(times):
        before = {path.name for path in place.home.runs.glob("[0-9]*")}
        key = f"click-{seed}-{number}"
        click = threading.Thread(target=_clicked, args=(server, answers, key), daemon=True)
        click.start()
        began = time.monotonic()
        if number % 2:
            time.sleep(rng.uniform(0.0, 1.3 * took))
        else:
            _until_folder(place, before, took)
            time.sleep(rng.uniform(0.0, JUST_MADE_S))
        server.kill()
        waited = time.monotonic() - began
        click.join(10)
        made = {path.name for path in place.home.runs.glob("[0-9]*")} - before
        server.start()
        tally.add(
            "nothing was made yet" if not made else "a run was made",
            _faults_after(server, place, answers, key, before),
            killed_after_s=round(waited, 3),
        )
    return tally


def _until_folder(place: Place, before: set[str], took: float) -> None:
    deadline = time.monotonic() + 10 * took + 5
    while time.monotonic() < deadline:
        if {path.name for path in place.home.runs.glob("[0-9]*")} - before:
            return
        time.sleep(0.0005)


def _clicked(server: Server, answers: dict[str, Any], key: str) -> None:
    try:
        server.start_run(answers, key)
    except (OSError, AssertionError):
        return  # the server died under it, which is what is tried


def _undisturbed(server: Server, answers: dict[str, Any]) -> float:
    began = time.monotonic()
    run_id = server.start_run(answers)
    took = time.monotonic() - began
    until(lambda: server.run(run_id)["state"] == "finished", BEGUN_S, "a first run finishes")
    return took


def _faults_after(
    server: Server, place: Place, answers: dict[str, Any], key: str, before: set[str]
) -> list[str]:
    run_id = server.start_run(answers, key)
    over = {"finished", "stopped", "failed", "lost"}
    try:
        until(lambda: server.run(run_id)["state"] in over, BEGUN_S, "the run is over")
    except TimeoutError:
        return [f"the run is {server.run(run_id)['state']} for ever"]
    made = {path.name for path in place.home.runs.glob("[0-9]*")} - before
    run = RunFolder(place.home.runs / run_id)
    events = events_of(run)
    faults = disorder(events)
    if made != {run_id}:
        faults.append(f"{len(made)} runs of one click")
    if (state := server.run(run_id)["state"]) != "finished":
        faults.append(f"the run is {state}")
    if (starts := sum(event.kind == "started" for event in events)) != 1:
        faults.append(f"{starts} workers began")
    return faults


@contextmanager
def _ended_after_all(run: RunFolder) -> Iterator[None]:
    try:
        yield
    finally:
        who = read_facts(run).process
        if who is not None and who.alive and not run.stop.exists():
            kill_tree(who)


def _work_of(run: RunFolder) -> float:
    """Return the processor seconds that the worker has had."""
    who = read_facts(run).process
    process = who.process if who else None
    if process is None:
        return 0.0
    times: Any = process.cpu_times()
    return float(times.user + times.system)
