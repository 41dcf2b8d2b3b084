"""Run the fault scenarios of tests/faults many times.

    python bench/faults.py [SCENARIO ...] [--times N] [--seed S]

Without a scenario, all are run one after the other. Results are stored in bench/results/faults/,
and the table in docs/reliability.md is written from them.
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
from tests.faults.nursery import nursing
from tests.faults.place import Place, Tally
from tests.faults.serving import REAL, serving

FOLDER = RESULTS / "faults"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table: written by bench/faults.py -->", "<!-- end of table -->"
Play = Callable[[Place, int, int], Tally]


def _nursed(play: Callable[..., Tally]) -> Play:
    def run(place: Place, times: int, seed: int) -> Tally:
        with nursing() as nursery:
            return play(place, nursery, times, seed)

    return run


def _served(play: Callable[..., Tally]) -> Play:
    def run(place: Place, times: int, seed: int) -> Tally:
        with serving(place.home) as server:
            return play(server, place, times, seed)

    return run


def _on_a_small_disk(place: Place, times: int, seed: int) -> Tally:
    if why := scarcity.why_no_small_disk():
        raise SystemExit(f"disk-full cannot run here: {why}")
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


# Scenario → function, number of tries, and title in the table.
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
        "Resumed and uninterrupted runs compared byte for byte, five kinds of settings",
    ),
    "damaged": (_nursed(damage.play), 60, "Damaged files of the two newest checkpoints"),
    "disk-full": (_on_a_small_disk, 5, "Disk full at eight points"),
    "out-of-memory": (_nursed(scarcity.memory), 20, "Memory of the GPU and of the computer"),
    "memory-autopilot": (
        _nursed(scarcity.autopilot),
        20,
        "Too little memory from one step on; compared with the undisturbed run",
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
    """Run the requested scenarios, store their results, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help="scenarios to run")
    parser.add_argument("--times", type=int, help="number of tries instead of the default")
    parser.add_argument("--seed", type=int, help="seed of random choices")
    options = parser.parse_args()
    if unknown := set(options.scenario) - set(SCENARIOS):
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(SCENARIOS)}")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    wrong = 0
    for name in options.scenario or SCENARIOS:
        play, full, _what = SCENARIOS[name]
        times = options.times or full
        result = run_scenario(name, play, times, seed)
        wrong += len(result["wrong"])
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{name}.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        write_table()
    return int(wrong > 0)


def run_scenario(name: str, play: Play, times: int, seed: int) -> dict[str, Any]:
    """Run a scenario in a home of its own and return its results."""
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
    """Return median and maximum of every measured number."""
    numbers: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers.setdefault(name, []).append(float(value))
    return {
        name: {"median": round(statistics.median(values), 4), "most": round(max(values), 4)}
        for name, values in numbers.items()
    }


def write_table() -> None:
    """Write the table of the page from the stored results."""
    lines = [
        "| scenario | tries | passed | seed | measured: median (maximum) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (_play, _full, what) in SCENARIOS.items():
        path = FOLDER / f"{name}.json"
        if not path.is_file():
            continue
        kept = json.loads(path.read_text("utf-8"))
        measured = ", ".join(
            f"{label} {each['median']:g} ({each['most']:g})"
            for label, each in kept["figures"].items()
        )
        tries, passed = kept["tries"], kept["tries"] - len(kept["wrong"])
        title = f"{what} (`{name}` × {kept['times']})"
        lines.append(f"| {title} | {tries} | {passed} | {kept['seed']} | {measured} |")
    text = PAGE.read_text("utf-8") if PAGE.exists() else f"# Reliability\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
