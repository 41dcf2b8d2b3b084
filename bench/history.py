"""Measure how lists, filters, pages and polls scale with the number and length of runs.

python bench/history.py [RUNS ...]      (default: 10 1000 10000)
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

Written by `python bench/history.py`; the raw figures are in `bench/results/history.csv`. The homes
are generated: every run has a record, events, a log and a small output. Figures are medians in
milliseconds. Lists were requested from a running server over HTTP, each filter with different words
to avoid caches; *cold* ones start a new process. For long runs, CPU time is reported, which other
work on the machine does not change.
"""
LISTS = {
    "list": "Ten newest runs, `GET /api/runs?limit=10`",
    "filter": "Words of few runs, `?query=`",
    "sort": "Ten biggest runs, `?sort=size`",
    "open": "One run, `GET /api/runs/ID`",
    "curves": "Its curves, `GET /api/runs/ID/curves`",
    "active": "Which run is active, `GET /api/health`",
    "cold_list": "Cold: a new process lists ten, with the cache of an earlier one",
    "first_list": "Cold: the same in a home without a cache",
    "cli": "Cold: `modelforge runs list --limit 10`",
}
WARM = ("list", "filter", "open")
OPENS = {
    "open": "The run's page with all parts, opened for the first time",
    "wall": "The same, wall time",
    "quiet": "A poll without news",
    "state": "A poll that reads the state, once per second",
    "fresh": "A poll with a new step, all curves",
    "curves": "Its curves for REST and comparisons, first time",
    "memory": "Memory of the open page, MiB",
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
            samples = opening(home, run_id)
            rows += [{"what": f"long {n}", "of": points, "ms": ms} for n, ms in samples]
            print(f"{points:,} steps and {lines:,} lines measured")
        keep("history", rows)
        text = page(rows, counts, before)
        (ROOT / "docs" / "performance-history.md").write_text(text, encoding="utf-8")
        print(text)


def page(rows: Sequence[dict[str, Any]], counts: Sequence[int], before: str) -> str:
    """Return docs/performance-history.md."""
    lists = table(rows, LISTS, counts, "", [f"{count:,} runs" for count in counts])
    lengths = [points for points, _ in LENGTHS]
    heads = [f"{points:,} steps, {lines:,} log lines" for points, lines in LENGTHS]
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
Why the time does not grow: a finished run is read once and cached as a row in `cache/runs.json` of
the home. The mtime of the runs folder shows that a run was added or removed; then folders are
compared, not read. The page of a run keeps the minimum and the maximum of each section of its
curves, so the time to draw does not depend on the length; polls read only new events and the last
64 KiB. The first listing of a home without a cache reads every run once.
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
    for name, title in names.items():
        medians = [median(rows, prefix + name, size) for size in sizes]
        values = " | ".join(f"{value:,.2f}" for value in medians)
        lines.append(f"| {title} | {values} | {medians[-1] / medians[0]:.2f} |")
    return lines


def median(rows: Sequence[dict[str, Any]], what: str, of: int) -> float:
    return statistics.median(row["ms"] for row in rows if row["what"] == what and row["of"] == of)


def ratio(rows: Sequence[dict[str, Any]], what: str, sizes: Sequence[int]) -> float:
    return median(rows, what, sizes[-1]) / median(rows, what, sizes[0])


# Many runs


def make_runs(home: Path, count: int) -> None:
    """Fill a home with finished runs, without a cache."""
    record = json.loads((RECORD / "config.json").read_text("utf-8"))
    events = (RECORD / "events.jsonl").read_bytes()
    draw = random.Random(3)
    an_hour_ago = time.time() - 3600
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
        os.utime(folder, (an_hour_ago, an_hour_ago))
    os.utime(home / "runs", (an_hour_ago, an_hour_ago))


def listing(home: Path, count: int) -> list[tuple[str, float]]:
    """Measure a home without a cache, with one, and through a server."""
    samples = [("first_list", cold(home))]
    samples += [("cold_list", cold(home)) for _ in range(COLD)]
    command = [sys.executable, "-m", "modelforge", "runs", "list", "--limit", str(PAGE)]
    for _ in range(COLD):
        began = time.perf_counter()
        subprocess.run([*command, "--home", str(home)], cwd=ROOT, check=True, capture_output=True)
        samples.append(("cli", 1000 * (time.perf_counter() - began)))
    ids = sorted(path.name for path in (home / "runs").iterdir())
    draw = random.Random(5)
    with serving(home) as server:

        def request(path: str) -> float:
            began = time.perf_counter()
            with urllib.request.urlopen(server.url + path, timeout=60) as response:
                response.read()
            return 1000 * (time.perf_counter() - began)

        # The same few runs in a home of any size, so that disk reads are not measured.
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
                request(path(n if name in ("open", "curves") else REPEATS))
            samples += [(name, request(path(n))) for n in range(REPEATS)]
    assert count == len(ids)
    return samples


def cold(home: Path) -> float:
    """Return the milliseconds of the first list in a new process."""
    command = [sys.executable, "-c", COLD_PROGRAM, str(home)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


# Long runs


def make_long(home: Path, points: int, lines: int) -> str:
    """Make an active run, in this process, with many events and log lines."""
    from modelforge.runs.process.identity import ProcessIdentity

    make_runs(home, 1)
    (folder,) = (home / "runs").iterdir()
    identity = ProcessIdentity.of(os.getpid()).as_dict()
    (folder / "process.json").write_text(json.dumps(identity))
    with (folder / "events.jsonl").open("w") as file:
        events = [("started", identity), ("plan", {"total_steps": 2 * points, "epochs": 3.0})]
        events += [("step", step_data(number, points)) for number in range(1, points + 1)]
        for n, (kind, data) in enumerate(events, start=1):
            event = {"n": n, "t": 1.79e9 + n / 2, "kind": kind, "data": data}
            file.write(json.dumps(event) + "\n")
    with (folder / "worker.log").open("w") as file:
        for number in range(lines):
            file.write(f"line {number} of the output of a library\n")
    return folder.name


def step_data(number: int, points: int) -> dict[str, Any]:
    """Return the data of one step event."""
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
        follower = RunFollower(forge, run_id)
        assert follower.update()
        return follower

    began = time.perf_counter()
    opened, ms = timed(open_page)
    samples = [("open", ms), ("wall", 1000 * (time.perf_counter() - began))]
    samples.append(("memory", max(0.1, resident_mib(os.getpid()) - before)))
    for turn in range(REPEATS):
        # One poll without news is too short for the CPU clock.
        samples.append(("quiet", timed(lambda: [opened.update() for _ in range(100)])[1] / 100))
        opened._checked_at = -9.0
        samples.append(("state", timed(opened.update)[1]))
        number += 1
        with events.open("a") as file:
            event = {
                "n": number,
                "t": 1.79e9 + number,
                "kind": "step",
                "data": step_data(number, number),
            }
            file.write(json.dumps(event) + "\n")
        opened._charts_at = 0.0
        news, ms = timed(opened.update)
        assert news, turn
        samples.append(("fresh", ms))
    samples.append(("curves", timed(lambda: forge.history.curves(run_id).as_dict())[1]))
    forge.close()
    return samples


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of `work` and its CPU time in milliseconds."""
    began = time.process_time()
    result = work()
    return result, 1000 * (time.process_time() - began)


if __name__ == "__main__":
    main([int(value) for value in sys.argv[1:]] or (10, 1_000, 10_000))
