"""Measure preview, check throughput and peak memory on a large JSONL file, and compare readers.

python bench/data.py [MEGABYTES]
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import psutil
from harness import ROOT, keep, kept, measured_on, recorded

from modelforge.units import MIB

HEAD = """# Performance: reading data

Written by `python bench/data.py` and `python bench/data_check.py`; the raw figures are in
`bench/results/data.csv` and `bench/results/data-check.csv`.

## One large file

One file of JSON lines, rows of about 1 KB; every measurement is a process of its own. Memory is the
peak of the process and its children, minus that of an idle interpreter.
"""
WORDS = """the model learns what your data says and every row counts when training starts in earnest
because nothing else is there to learn from, quite often more; some 3 or 12 people (and dogs)
agree: yes, it's so"""
TASKS = {
    "preview": "Summary of the first 20 rows",
    "check": "Summary and data checks, all rows, two processes",
    "alone": "Data checks in one process",
    "json": "Parsing alone: `json` of the standard library",
    "orjson": "Parsing alone: orjson, a line at a time",
    "pyarrow": "Parsing and back to Python: pyarrow.json in batches",
    "datasets": "`datasets.load_dataset`, which converts the file without checks",
}
PROGRAMS = {
    "preview": "from modelforge.data.checks.summary import summarize\nsummarize(P, limit=20)",
    "check": """
from modelforge.data.checks.parallel import CountCache
from modelforge.data.checks.summary import summarize
from modelforge.data.checks.run import check_file
cache = CountCache()
summarize(P, cache=cache)
check_file(P, cache=cache)""",
    "alone": """
from modelforge.data.checks import parallel
from modelforge.data.checks.run import check_file
parallel.LARGE_BYTES = 1 << 60
check_file(P)""",
    "json": "for line in P.open('rb'): json.loads(line)",
    "orjson": "import orjson\nfor line in P.open('rb'): orjson.loads(line)",
    "pyarrow": """
import pyarrow.json as pj
for batch in pj.open_json(P, pj.ReadOptions(block_size=1 << 24)): batch.to_pylist()""",
    "datasets": """
import datasets
datasets.load_dataset('json', data_files=str(P), split='train', cache_dir=sys.argv[2])""",
}
# The last line has the figures: wall time and CPU time including children, in seconds.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
P = Path(sys.argv[1])
began = time.perf_counter()
{code}
print()
print(json.dumps([time.perf_counter() - began, sum(os.times()[:4])]))
"""


def main(megabytes: int = 1000) -> None:
    """Measure every task on one file, and write the page."""
    with tempfile.TemporaryDirectory() as folder, recorded("data"):
        path = Path(folder) / "rows.jsonl"
        count = write_rows(path, megabytes * 10**6)
        size = path.stat().st_size
        rows = [measure(name, path) for name in TASKS]
        keep("data", [row | {"bytes": size, "file_rows": count} for row in rows])
    write_page()


def write_page() -> None:
    """Write docs/performance-data.md from the stored results of data.py and data_check.py."""
    on, rows, checks = measured_on(), kept("data"), kept("data-check")
    lines = [HEAD]
    if rows:
        size, count = rows[0]["bytes"], rows[0]["file_rows"]
        file = f"The file: {count:,.0f} rows, {size / 1e6:,.0f} MB."
        lines += [
            f"Measured {on['data']}; the rest as in `constraints.txt`. {file}",
            "",
            "| what | seconds | MB/s | processor seconds | peak memory, MiB |",
            "| --- | --: | --: | --: | --: |",
            *(table_line(row, size) for row in rows),
            "",
            WHY,
        ]
    if checks:
        lines += [
            CHECKS,
            f"Measured {on['data-check']}.",
            "",
            "| rows | rows checked per processor second |",
            "| --- | --: |",
            *(f"| {row['kind']} | {row['now']:,.0f} |" for row in checks),
            "",
        ]
    text = "\n".join(lines)
    (ROOT / "docs" / "performance-data.md").write_text(text, encoding="utf-8")
    print(text)


WHY = """\
Seconds are measured inside the process, including imports, without the start of Python. On a shared
machine, processor seconds are the more stable figure.

Rows are parsed with orjson, one line at a time. The checks need Python objects in any case; pyarrow
parses into columns first, needs one schema for all rows, and reports no line numbers. Reading and
checking are CPU-bound, so a file larger than 64 MiB is read by two processes, each with half of the
lines; they run `python -m modelforge.data.checks.parallel`, which works on every system. This needs
a free core: every task is run once here, and where the load average above exceeds the number of
cores, two processes may not be faster than one, and the two lines cannot be compared (the check
also makes the summary and the file's hash). The checks reuse the counts of the summary, as in the
app, so the rows are parsed once. Memory grows by 24 bytes per row, for finding duplicates and
questions with several answers, up to 8 million rows.
"""
CHECKS = """\
## Data checks by kind of file

All data checks of files of 20 MB, each in a process of its own: median of three rounds. Rows per
processor second, which other programs on the machine hardly change.
"""


def write_rows(path: Path, size: int) -> int:
    """Write rows of about 1 KB until the file has `size` bytes; return their number."""
    draw = random.Random(3)
    words = WORDS.split()
    pool = [" ".join(draw.choice(words) for _ in range(60)) for _ in range(2000)]
    count = written = 0
    with path.open("wb") as file:
        while written < size:
            tail = draw.choice(pool)[:200]
            row = {
                "input": f"question {count} {draw.choice(pool)[:180]}?",
                "output": f"{draw.choice(pool)} {count}. {draw.choice(pool)}\n{tail}",
            }
            written += file.write(orjson.dumps(row) + b"\n")
            count += 1
    return count


def measure(name: str, path: Path) -> dict[str, object]:
    """Run one task in a process of its own; return its seconds and peak memory."""
    program = PROGRAM.format(code=PROGRAMS[name])
    with tempfile.TemporaryDirectory() as cache:
        idle = idle_bytes()
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(path), cache], stdout=subprocess.PIPE, cwd=ROOT
        )
        peak = Peak(process.pid)
        output, _ = process.communicate()
        peak_bytes = peak.stop()
    seconds, busy = json.loads(output.decode().splitlines()[-1])
    print(f"{name:<9} {seconds:7.2f} s")
    return {
        "way": name,
        "seconds": round(seconds, 3),
        "processor_s": round(busy, 3),
        "peak_mib": round(max(0, peak_bytes - idle) / MIB, 1),
    }


def idle_bytes() -> int:
    """Return the resident memory of an idle interpreter."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        time.sleep(0.3)
        held = psutil.Process(process.pid).memory_info().rss
        process.communicate(b"\n")
    return held


class Peak:
    """Samples the memory of a process and its children 50 times per second.

    Mapped file pages are not counted, because the system can reclaim them.
    """

    def __init__(self, pid: int) -> None:
        self.max_bytes = 0
        self._over = threading.Event()
        self._process = psutil.Process(pid)
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self.max_bytes

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                held = 0
                for each in family:
                    info = each.memory_info()
                    held += info.rss - getattr(info, "shared", 0)
                self.max_bytes = max(self.max_bytes, held)
            except psutil.Error:
                continue


def table_line(row: dict[str, Any], size: float) -> str:
    """Return one line of the table."""
    seconds, what = row["seconds"], TASKS[row["way"]]
    speed = "" if row["way"] == "preview" else f"{size / 1e6 / seconds:,.0f}"
    busy, peak = row["processor_s"], row["peak_mib"]
    return f"| {what} | {seconds:,.2f} | {speed} | {busy:,.2f} | {peak:,.0f} |"


if __name__ == "__main__":
    main(*(int(given) for given in sys.argv[1:2]))
