"""Run GPU tests in eight processes at a time: python -m bench.gpu_steps.gpu_tests FILE … RECORD."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.gpu_steps.record import Record

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 8
OUTCOMES = "MODELFORGE_GPU_OUTCOMES"
CELLS = "MODELFORGE_GPU_RECORD"
# Libraries of other versions than ours may warn of what they deprecate.
WARNINGS = ("-W", "default")
PYTEST = (sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *WARNINGS)
REASON_CHARS = 1500


def pytest_runtest_logreport(report: Any) -> None:
    """Append the outcome of a test to a file as soon as it is known (this module as a plugin)."""
    path = os.environ.get(OUTCOMES)
    if not path or (report.when != "call" and report.passed):
        return
    reason = ""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
    elif report.failed:
        reason = str(report.longrepr)[-REASON_CHARS:]
    row = {
        "test": report.nodeid.removeprefix("tests/gpu/"),
        "outcome": report.outcome,
        "seconds": round(report.duration, 1),
        "reason": reason,
    }
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def collect(files: list[str], record: Record) -> list[str]:
    """Return the ids of the tests in these files; a file that cannot be imported is recorded."""
    command = [*PYTEST, "--collect-only", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    ids = [line for line in done.stdout.splitlines() if "::" in line and line.startswith("tests/")]
    if done.returncode:
        record.keep(collection=(done.stdout + done.stderr)[-REASON_CHARS:])
    return ids


def run(ids: list[str], record: Record, at_once: int = AT_ONCE) -> bool:
    """Run the tests and record their outcomes as they end; return whether none failed.

    Every process gets every n-th test, so that long and short ones are spread evenly.
    """
    outcomes, cells = record.path.with_suffix(".tests"), record.path.with_suffix(".cells")
    variables = {**os.environ, OUTCOMES: str(outcomes), CELLS: str(cells)}
    plugin = ("-p", "bench.gpu_steps.gpu_tests")
    processes = [
        subprocess.Popen([*PYTEST, *plugin, *ids[first::at_once]], cwd=ROOT, env=variables)
        for first in range(min(at_once, len(ids)))
    ]
    while True:
        is_over = all(process.poll() is not None for process in processes)
        rows = _read_lines(outcomes)
        counts = Counter(row["outcome"] for row in rows)
        done = {row["test"] for row in rows}
        record.keep(
            counts={**counts, "not run": len(ids) - len(done)},
            failed=[row for row in rows if row["outcome"] == "failed"],
            skipped=Counter(row["reason"] for row in rows if row["outcome"] == "skipped"),
            cells=_read_lines(cells),
        )
        if is_over:
            return counts["passed"] + counts["skipped"] == len(ids)
        time.sleep(0.5)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    # The last line may be incomplete.
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def main() -> int:
    """Run the files named on the command line; the last argument is the record."""
    *files, path = sys.argv[1:]
    record = Record(Path(path))
    ids = collect(files, record)
    is_complete = "collection" not in record.values
    return int(not (run(ids, record) and is_complete))


if __name__ == "__main__":
    sys.exit(main())
