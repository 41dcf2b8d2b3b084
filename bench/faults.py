"""Faults in their full number: what the tests under tests/faults do a few times, done often.

    python bench/faults.py [SCENARIO ...] [--times N] [--seed S]

Without a scenario all are played, one after the other. What came of each is kept in
bench/results/faults/, and the table in docs/reliability.md is written from there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from harness import RESULTS, ROOT, conditions

sys.path.insert(0, str(ROOT))

from tests.faults import (
    clicks,
    clocks,
    damage,
    floods,
    scarcity,
    server_kills,
    soak,
    strangers,
    stubborn,
    worker_kills,
)
from tests.faults.ground import Place, Tally
from tests.faults.nursery import nursing
from tests.faults.serving import REAL, serving

FOLDER = RESULTS / "faults"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table: written by bench/faults.py -->", "<!-- end of table -->"
Play = Callable[[Place, int, int], Tally]


def _nursed(play: Callable[..., Tally]) -> Play:
    def played(place: Place, times: int, seed: int) -> Tally:
        with nursing() as nursery:
            return play(place, nursery, times, seed)

    return played


def _served(play: Callable[..., Tally]) -> Play:
    def played(place: Place, times: int, seed: int) -> Tally:
        with serving(place.home) as server:
            return play(server, place, times, seed)

    return played


def _on_a_small_disk(place: Place, times: int, seed: int) -> Tally:
    if why := scarcity.why_no_small_disk():
        raise SystemExit(f"disk-full cannot be played here: {why}")
    with nursing() as nursery, scarcity.small_disk(place.rows.parent) as disk:
        return scarcity.disk_full(Place.made(disk, place.model), nursery, times, seed)


def _in_mid_run(place: Place, times: int, seed: int) -> Tally:
    answers = place.answers(max_steps=100_000, per_device_train_batch_size=16)
    with serving(place.home, REAL) as server:
        return server_kills.in_mid_run(server, place, times, seed, answers=answers, timed=True)


def _while_launching(place: Place, times: int, seed: int) -> Tally:
    with serving(place.home, REAL) as server:
        answers = place.answers(max_steps=3)
        return server_kills.while_launching(server, place, times, seed, answers=answers)


# Scenario → how it is played, how often, and what it says in the table.
SCENARIOS: dict[str, tuple[Play, int, str]] = {
    "server-kills": (_in_mid_run, 100, "`kill -9` of the server in mid-run, then started again"),
    "server-kills-launching": (
        _while_launching,
        30,
        "`kill -9` of the server at a random moment of a start; the click is repeated",
    ),
    "worker-kills": (
        _nursed(worker_kills.kills),
        100,
        "`kill -9` of the worker, random and named points by turns; each resumed",
    ),
    "resumes": (
        _nursed(worker_kills.resumes),
        20,
        "Resumed against uninterrupted, byte for byte, five kinds of settings",
    ),
    "damaged": (_nursed(damage.play), 60, "Damaged files of the two newest checkpoints"),
    "disk-full": (_on_a_small_disk, 5, "Disk full at eight points"),
    "out-of-memory": (_nursed(scarcity.memory), 20, "Memory of the GPU and of the computer"),
    "memory-autopilot": (
        _nursed(scarcity.autopilot),
        20,
        "Too little memory from an update on; held against the undisturbed run",
    ),
    "stubborn": (stubborn.play, 10, "Deaf workers, hangs after the end, children left behind"),
    "strangers": (strangers.play, 3, "Stale and reused process ids"),
    "clocks": (
        _served(clocks.in_the_worker),
        2,
        "The worker's clock set by an hour or a day in mid-run",
    ),
    "file-times": (clocks.in_the_files, 2, "Files with the times of another day"),
    "flood": (_served(floods.a_flood), 3, "A log of a million lines"),
    "closed-tab": (
        _served(floods.a_closed_tab),
        40,
        "A tab closed for ten minutes, 1 MB a minute on stderr in every other 15 s",
    ),
    "reloads": (_served(floods.reloads), 50, "Reloads of the page of a run"),
    "clicks": (_served(clicks.at_once), 200, "So many clicks on Start at once"),
    "two-servers": (_served(clicks.two_servers), 10, "Two servers on one home"),
    "taken-port": (_served(clicks.taken_ports), 5, "A port that is taken"),
    "stale-lock": (clicks.stale_locks, 20, "A lock whose holder was killed"),
    "soak": (soak.short_runs, 200, "Short runs one after the other"),
}


def main() -> int:
    """Play what was asked for, keep what came of it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help="which to play")
    parser.add_argument("--times", type=int, help="how often, instead of the full number")
    parser.add_argument("--seed", type=int, help="what chance is drawn from")
    asked = parser.parse_args()
    if unknown := set(asked.scenario) - set(SCENARIOS):
        parser.error(f"there is no {', '.join(unknown)}; choose from {', '.join(SCENARIOS)}")
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10**6)
    wrong = 0
    for name in asked.scenario or SCENARIOS:
        play, full, _what = SCENARIOS[name]
        times = asked.times or full
        result = played(name, play, times, seed)
        wrong += len(result["wrong"])
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{name}.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        write_table()
    return int(wrong > 0)


def played(name: str, play: Play, times: int, seed: int) -> dict[str, Any]:
    """Return what came of a scenario in a home of its own."""
    from tests.gpu.building import decoder

    before = conditions()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="modelforge-faults-") as folder:
        model = Path(folder) / "model"
        model.mkdir()
        decoder(model)
        tally = play(Place.made(Path(folder) / "place", model), times, seed)
    return {
        "scenario": name,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "conditions": before,
        "times": times,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "tries": len(tally.rows),
        "wrong": tally.wrong,
        "figures": figures(tally.rows),
        "rows": tally.rows,
    }


def figures(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return median and most of every number that was measured."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, []).append(float(value))
    return {
        name: {"median": round(statistics.median(values), 4), "most": round(max(values), 4)}
        for name, values in found.items()
    }


def write_table() -> None:
    """Write the table of the page from what is kept."""
    lines = [
        "| what | tries | held | seed | measured: median (most) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (_play, _full, what) in SCENARIOS.items():
        path = FOLDER / f"{name}.json"
        if not path.is_file():
            continue
        kept = json.loads(path.read_text("utf-8"))
        told = ", ".join(
            f"{label} {each['median']:g} ({each['most']:g})"
            for label, each in kept["figures"].items()
        )
        tries, held = kept["tries"], kept["tries"] - len(kept["wrong"])
        asked = f"{what} (`{name}` × {kept['times']})"
        lines.append(f"| {asked} | {tries} | {held} | {kept['seed']} | {told} |")
    text = PAGE.read_text("utf-8") if PAGE.exists() else f"# Reliability\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
