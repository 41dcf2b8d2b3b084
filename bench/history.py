"""A long history and long runs: how lists, filters, pages and polls grow with them.

python bench/history.py [RUNS …]      (10 1000 10000 if none are given)
"""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import ROOT, conditions, keep, resident_mib, serving

REPEATS = 25
PAGE = 10
COLD = 3
LENGTHS = ((1_000, 1_000), (100_000, 1_000_000))
RECORD = ROOT / "tests" / "stored_runs" / "run-v1"
HEAD = """# Performance: history

Written by `python bench/history.py`; the raw figures lie in `bench/results/history.csv`. Homes are
made up: every run has a record, events, a log and a small result. Figures are medians in
milliseconds. Lists were asked of a running server over HTTP, each filter with other words so that
no answer is remembered; *cold* ones begin with a new process. Of long runs the processor's time is
told, which other work on the machine does not change.
"""
LISTS = {
    "list": "Ten newest runs, `GET /api/runs?limit=10`",
    "filter": "Words that few runs have, `?query=`",
    "sort": "Ten biggest runs, `?sort=size`",
    "open": "One run, `GET /api/runs/ID`",
    "curves": "Its curves, `GET /api/runs/ID/curves`",
    "active": "Which run is active, `GET /api/health`",
    "cold_list": "Cold: a process that lists ten, from what an earlier one kept",
    "first_list": "Cold: the same in a home that was never listed",
    "cli": "Cold: `modelforge runs list --limit 10`",
}
WARM = ("list", "filter", "open")
OPENS = {
    "open": "The run's page, every part drawn, for a run nobody has looked at",
    "wall": "The same by the clock on the wall",
    "quiet": "A poll while nothing is new",
    "state": "A poll that looks at the state, once a second",
    "fresh": "A poll with a new update, every curve drawn",
    "curves": "Its curves for REST and comparisons, first time",
    "memory": "Memory that the open page holds, MiB",
}
COLD_PROGRAM = """
import sys, time
began = time.perf_counter()
from pathlib import Path
from modelforge.forge import Forge
from modelforge.paths import Home
forge = Forge(Home(Path(sys.argv[1])))
at = time.perf_counter()
rows = forge.history.page(limit=10).rows
assert len(rows) == 10
print(1000 * (time.perf_counter() - at))
"""


def main(counts: Sequence[int] = (10, 1_000, 10_000)) -> None:
    """Measure homes of every size, then runs of every length, and write the page."""
    before = conditions()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            home = Path(folder) / f"home-{count}"
            make_runs(home, count)
            rows += [{"what": name, "of": count, "ms": ms} for name, ms in listing(home, count)]
            print(f"{count} runs measured")
        for points, lines in LENGTHS:
            home = Path(folder) / f"long-{points}"
            run_id = make_long(home, points, lines)
            found = opening(home, run_id)
            rows += [{"what": f"long {n}", "of": points, "ms": ms} for n, ms in found]
            print(f"{points:,} updates and {lines:,} lines measured")
        keep("history", rows)
        text = page(rows, counts, before)
        (ROOT / "docs" / "performance-history.md").write_text(text, encoding="utf-8")
        print(text)


def page(rows: Sequence[dict[str, Any]], counts: Sequence[int], before: str) -> str:
    """Return docs/performance-history.md."""
    lists = table(rows, LISTS, counts, "", [f"{count:,} runs" for count in counts])
    lengths = [points for points, _ in LENGTHS]
    heads = [f"{points:,} updates, {lines:,} log lines" for points, lines in LENGTHS]
    opens = table(rows, OPENS, lengths, "long ", heads)
    worst = max(ratio(rows, name, counts) for name in WARM)
    polls = max(ratio(rows, f"long {name}", lengths) for name in ("quiet", "state", "fresh"))
    return "\n".join(
        [
            HEAD,
            f"Measured {datetime.now(UTC):%Y-%m-%d} on {before}.",
            "",
            "## Many runs",
            "",
            *lists,
            "",
            f"List, filter and open: the largest ratio is **{worst:.2f}** (aim: 3 at most).",
            "",
            "## Long runs",
            "",
            *opens,
            "",
            f"Polls: the largest ratio is **{polls:.2f}** (aim: 1.2 at most).",
            "",
            WHY,
        ]
    )


WHY = """\
Why it stays flat: a run that is over is read once, by whichever process comes first, and kept as a
row in `cache/runs.json` of the home. The folder of runs says by its mtime that one of them has
changed; then folders are compared, not read. A page of a run keeps two points of each stretch of
its curves, the lowest and the highest, so that drawing costs the same however long it is; polls
read what is new and the last 64 KiB. The first listing of a home that nobody has listed reads every
run, once.
"""


def table(
    rows: Sequence[dict[str, Any]],
    names: dict[str, str],
    sizes: Sequence[int],
    prefix: str,
    heads: Sequence[str],
) -> list[str]:
    """Return a table of medians with the ratio of the last column to the first."""
    lines = [f"| what | {' | '.join(heads)} | ratio |", f"| --- | {'--: | ' * len(heads)}--: |"]
    for name, told in names.items():
        found = [median(rows, prefix + name, size) for size in sizes]
        values = " | ".join(f"{value:,.2f}" for value in found)
        lines.append(f"| {told} | {values} | {found[-1] / found[0]:.2f} |")
    return lines


def median(rows: Sequence[dict[str, Any]], what: str, of: int) -> float:
    return statistics.median(row["ms"] for row in rows if row["what"] == what and row["of"] == of)


def ratio(rows: Sequence[dict[str, Any]], what: str, sizes: Sequence[int]) -> float:
    return median(rows, what, sizes[-1]) / median(rows, what, sizes[0])


# Many runs


def make_runs(home: Path, count: int) -> None:
    """Fill a home with finished runs that nobody has listed."""
    record = json.loads((RECORD / "config.json").read_text("utf-8"))
    events = (RECORD / "events.jsonl").read_bytes()
    draw = random.Random(3)
    long_ago = time.time() - 3600
    for number in range(count):
        folder = home / "runs" / f"20260101-{number % 10**6:06d}-{number:04x}"
        (folder / "output").mkdir(parents=True)
        word = "".join(draw.choice("bcdfghklmnprst") for _ in range(6))
        record |= {"id": folder.name, "name": f"{word} {number}", "created": 1.79e9 + number}
        (folder / "config.json").write_text(json.dumps(record | {"request_id": str(number)}))
        for name in ("preflight", "environment"):
            (folder / f"{name}.json").write_text("{}")
        (folder / "process.json").write_text('{"pid": 999999, "birth": 1.0}')
        (folder / "events.jsonl").write_bytes(events)
        (folder / "worker.log").write_text("loading\n")
        (folder / "output" / "adapter_config.json").write_text("{}")
        os.utime(folder, (long_ago, long_ago))
    os.utime(home / "runs", (long_ago, long_ago))


def listing(home: Path, count: int) -> list[tuple[str, float]]:
    """Measure a home, never listed first, then kept, then by a server."""
    found = [("first_list", cold(home))]
    found += [("cold_list", cold(home)) for _ in range(COLD)]
    command = [sys.executable, "-m", "modelforge", "runs", "list", "--limit", str(PAGE)]
    for _ in range(COLD):
        began = time.perf_counter()
        subprocess.run([*command, "--home", str(home)], cwd=ROOT, check=True, capture_output=True)
        found.append(("cli", 1000 * (time.perf_counter() - began)))
    ids = sorted(path.name for path in (home / "runs").iterdir())
    draw = random.Random(5)
    with serving(home) as server:

        def asked(path: str) -> float:
            began = time.perf_counter()
            with urllib.request.urlopen(server.url + path, timeout=60) as answer:
                answer.read()
            return 1000 * (time.perf_counter() - began)

        # The same few in a home of any size: what the disk holds back is not what is measured.
        few = draw.sample(ids, PAGE)
        one = [few[n % PAGE] for n in range(REPEATS + 1)]
        words = [f"{draw.choice('bcdfgh')}{draw.choice('klmn')} {n}" for n in range(REPEATS + 1)]
        for name, path in (
            ("list", lambda _: f"/api/runs?limit={PAGE}"),
            ("filter", lambda n: f"/api/runs?limit={PAGE}&query={words[n].replace(' ', '+')}"),
            ("sort", lambda _: f"/api/runs?limit={PAGE}&sort=size"),
            ("open", lambda n: f"/api/runs/{one[n]}"),
            ("curves", lambda n: f"/api/runs/{one[n]}/curves"),
            ("active", lambda _: "/api/health"),
        ):
            for n in range(PAGE + 1):
                asked(path(n if name in ("open", "curves") else REPEATS))
            found += [(name, asked(path(n))) for n in range(REPEATS)]
    assert count == len(ids)
    return found


def cold(home: Path) -> float:
    """Return the milliseconds of the first list in a process of its own."""
    command = [sys.executable, "-c", COLD_PROGRAM, str(home)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


# Long runs


def make_long(home: Path, points: int, lines: int) -> str:
    """Make a run that goes on, in this very process, and has said much."""
    from modelforge.runs.process.identity import ProcessIdentity

    make_runs(home, 1)
    (folder,) = (home / "runs").iterdir()
    who = ProcessIdentity.of(os.getpid()).as_dict()
    (folder / "process.json").write_text(json.dumps(who))
    with (folder / "events.jsonl").open("w") as file:
        told = [("started", who), ("plan", {"total_steps": 2 * points, "epochs": 3.0})]
        told += [("step", update(number, points)) for number in range(1, points + 1)]
        for n, (kind, data) in enumerate(told, start=1):
            event = {"n": n, "t": 1.79e9 + n / 2, "kind": kind, "data": data}
            file.write(json.dumps(event) + "\n")
    with (folder / "worker.log").open("w") as file:
        for number in range(lines):
            file.write(f"line {number} of what a library prints, with some words behind it\n")
    return folder.name


def update(number: int, points: int) -> dict[str, Any]:
    """Return the data of one update."""
    return {
        "step": number,
        "total_steps": 2 * points,
        "epoch": 3 * number / points,
        "loss": 0.7 + 2.9 * math.exp(-4 * number / points) + 0.1 * math.sin(number * 1.7),
        "learning_rate": 5e-4 * (1 - number / points / 2),
        "grad_norm": 1.1,
        "tokens": 480,
        "tokens_per_s": 410.5 + math.sin(number),
        "seconds": 0.5,
        "cpu_percent": 96.2,
        "ram_gib": 2.6,
        "gpu_percent": None,
        "vram_gib": None,
        "metrics": {"entropy": 1.5 - number / points, "mean_token_accuracy": 0.6},
    }


def opening(home: Path, run_id: str) -> list[tuple[str, float]]:
    """Open a run's page as a browser tab does, and poll it."""
    sys.path.insert(0, str(ROOT))
    from modelforge.forge import Forge
    from modelforge.paths import Home
    from ui.pages.run.live import RunFollower

    forge = Forge(Home(home))
    events = home / "runs" / run_id / "events.jsonl"
    number = sum(1 for _ in events.open("rb"))
    before = resident_mib(os.getpid())

    def open_page() -> RunFollower:
        following = RunFollower(forge, run_id)
        assert following.update()
        return following

    began = time.perf_counter()
    opened, found = timed(open_page)
    samples = [("open", found), ("wall", 1000 * (time.perf_counter() - began))]
    samples.append(("memory", max(0.1, resident_mib(os.getpid()) - before)))
    for turn in range(REPEATS):
        # One quiet poll is too short for the processor's clock.
        samples.append(("quiet", timed(lambda: [opened.update() for _ in range(100)])[1] / 100))
        opened._checked_at = -9.0
        samples.append(("state", timed(opened.update)[1]))
        number += 1
        with events.open("a") as file:
            event = {
                "n": number,
                "t": 1.79e9 + number,
                "kind": "step",
                "data": update(number, number),
            }
            file.write(json.dumps(event) + "\n")
        opened._charts_at = 0.0
        told, ms = timed(opened.update)
        assert told, turn
        samples.append(("fresh", ms))
    samples.append(("curves", timed(lambda: forge.history.curves(run_id).as_dict())[1]))
    forge.close()
    return samples


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what some work gave, and the milliseconds of the processor that it took."""
    began = time.process_time()
    given = work()
    return given, 1000 * (time.process_time() - began)


if __name__ == "__main__":
    main([int(given) for given in sys.argv[1:]] or (10, 1_000, 10_000))
