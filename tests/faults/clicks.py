"""Many at once: clicks on Start, servers on one home, a port that is taken, a lock left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter

from modelforge.runs.process.lock import exclusive
from modelforge.runs.store import LOCK
from tests.faults.place import ROOT, SLACK, Place, Tally, until
from tests.faults.serving import REAL, Server, serving

TAKEN_S = 2.0 * SLACK


def at_once(server: Server, place: Place, times: int, seed: int) -> Tally:
    """Click `times` times at once: first with one request id, then each with its own."""
    tally = Tally(f"{times} clicks at once", seed)
    for case, keys in {
        "one request id": [f"one-{seed}"] * times,
        "a request id each": [f"own-{seed}-{number}" for number in range(times)],
    }.items():
        before = _ids(place)
        outcomes, seconds = _clicked([server], place, keys)
        made = _ids(place) - before
        tally.add(case, _click_faults(case, outcomes, made, times), seconds=round(seconds, 2))
        _stop_all(server, made)
    return tally


def _clicked(
    servers: list[Server], place: Place, keys: list[str]
) -> tuple[Counter[tuple[int, str]], float]:
    """Return how often each answer came: its status, and the run it names."""
    gate = threading.Barrier(len(keys) + 1)
    outcomes: Counter[tuple[int, str]] = Counter()
    answers = place.played_by("trains", 5000, PACE=0.02)

    def click(number: int) -> None:
        gate.wait()
        server = servers[number % len(servers)]
        try:
            status, reply = server.ask("POST", "/api/runs", answers, Idempotency_Key=keys[number])
        except OSError as error:
            status, reply = 0, {"id": str(error)}
        outcomes[status, reply.get("id") or reply.get("holder", "")] += 1

    threads = [threading.Thread(target=click, args=(number,)) for number in range(len(keys))]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    return outcomes, time.monotonic() - began


def _click_faults(
    case: str, outcomes: Counter[tuple[int, str]], made: set[str], times: int
) -> list[str]:
    faults = [] if len(made) == 1 else [f"{len(made)} runs were made"]
    run = next(iter(made), "")
    wanted = (
        {(202, run): times} if case.startswith("one") else {(202, run): 1, (409, run): times - 1}
    )
    if dict(outcomes) != {answer: count for answer, count in wanted.items() if count}:
        faults.append(f"the answers were {dict(outcomes)}")
    return faults


def two_servers(one: Server, place: Place, times: int, seed: int) -> Tally:
    """Have two servers on one home: both see every run, and one run at a time holds for both."""
    tally = Tally("two servers on one home", seed)
    with serving(place.home) as two:
        for number in range(times):
            before = _ids(place)
            keys = [f"both-{seed}-{number}"] * 2 + [f"each-{seed}-{number}-{n}" for n in range(8)]
            _clicked([one, two], place, keys)
            made = _ids(place) - before
            faults = [] if len(made) == 1 else [f"{len(made)} runs were made"]
            for run_id in made:
                states = {server.run(run_id)["state"] for server in (one, two)}
                if not states <= {"starting", "running"}:
                    faults.append(f"the servers say {sorted(states)}")
                # Whoever did not start it can stop it, and the other one sees that.
                two.ask("POST", f"/api/runs/{run_id}/stop", {"keep": False})
                try:
                    until(lambda: one.run(run_id)["state"] == "stopped", 20, "it is stopped")  # noqa: B023
                except TimeoutError as error:
                    faults.append(str(error))
            tally.add("a start at both", faults)
    return tally


def taken_ports(first: Server, place: Place, times: int, seed: int) -> Tally:
    """Ask for a port that another has: refused in a sentence, and nothing of the first is hurt."""
    tally = Tally("a port that is taken", seed)
    for _ in range(times):
        filled = [p.format(home=place.home.root, port=first.port) for p in REAL]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *filled], cwd=ROOT, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        faults = [] if done.returncode == 2 else [f"it ended with {done.returncode}"]
        reply = done.stdout + done.stderr
        if f"{first.port} cannot be used" not in reply or "Traceback" in reply:
            faults.append(f"it printed {reply[-200:]!r}")
        if not first.is_up():
            faults.append("the first server is gone")
        tally.add("the same port", faults, seconds=round(time.monotonic() - began, 2))
    return tally


HOLD = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from modelforge.runs.process.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def stale_locks(place: Place, times: int, seed: int) -> Tally:
    """Kill whoever holds the lock of starts: the next one has it at once."""
    tally = Tally("a lock left behind", seed)
    lock = place.home.runs / LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(times):
        command = [sys.executable, "-c", HOLD, str(lock), str(ROOT)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            holder.kill()
        began = time.monotonic()
        with exclusive(lock):
            took = time.monotonic() - began
        faults = [] if took < TAKEN_S else ["it was waited for"]
        tally.add("its holder was killed", faults, seconds=round(took, 3))
    return tally


def _ids(place: Place) -> set[str]:
    return {path.name for path in place.home.runs.glob("[0-9]*")}


def _stop_all(server: Server, run_ids: set[str]) -> None:
    for run_id in run_ids:
        server.ask("POST", f"/api/runs/{run_id}/stop", {"keep": False})
        until(lambda: server.run(run_id)["state"] == "stopped", 20, "it is stopped")  # noqa: B023
