"""Measure the data checks in rows per second by kind of file, also of two checkouts in turn.

python bench/data_check.py [--before FOLDER] [--rounds 3] [--megabytes 20]

Processor seconds are compared, which other programs on the machine hardly change.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from data import WORDS, write_page
from harness import ROOT, keep, recorded

# At b0bc2d7 the check had another name.
PROGRAM = """
import os, sys
from pathlib import Path
try:
    from modelforge.data.checks.run import check_file
except ImportError:
    from modelforge.data.doctor import examine_file as check_file
before = sum(os.times()[:4])
result = check_file(Path(sys.argv[1]))
print(sum(os.times()[:4]) - before, result.stats.rows)
"""
Row = dict[str, Any]


def texts() -> Iterator[str]:
    """Yield different texts of about 300 characters."""
    draw, words = random.Random(5), WORDS.split()
    for number in count():
        yield f"{number} {' '.join(draw.choice(words) for _ in range(60))}."


def pair(text: Iterator[str]) -> Row:
    """Return a question with its answer."""
    return {"input": f"{next(text)[:200]}?", "output": next(text)}


def chat(text: Iterator[str]) -> Row:
    """Return a conversation of six messages."""
    roles = ("user", "assistant") * 3
    return {"messages": [{"role": role, "content": next(text)} for role in roles]}


def preference(text: Iterator[str]) -> Row:
    """Return a prompt with two completions."""
    return {"prompt": f"{next(text)[:200]}?", "chosen": next(text), "rejected": next(text)}


def write_jsonl(path: Path, rows: list[Row]) -> None:
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_csv(path: Path, rows: list[Row]) -> None:
    """Write rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[Row]) -> None:
    """Write rows as Parquet."""
    pq.write_table(pa.Table.from_pylist(rows), path)


KINDS: dict[str, tuple[str, Callable[[Iterator[str]], Row], Callable[[Path, list[Row]], None]]] = {
    "pairs, JSON Lines": ("pairs.jsonl", pair, write_jsonl),
    "conversations, JSON Lines": ("chats.jsonl", chat, write_jsonl),
    "preferences, JSON Lines": ("preferences.jsonl", preference, write_jsonl),
    "pairs, CSV": ("pairs.csv", pair, write_csv),
    "conversations, Parquet": ("chats.parquet", chat, write_parquet),
}


def main(before: Path | None, rounds: int, megabytes: int) -> None:
    """Check one file of every kind in turn with every checkout, and print the medians."""
    checkouts = {"now": ROOT} | ({"before": before} if before else {})
    measured = []
    with tempfile.TemporaryDirectory() as folder, recorded("data-check"):
        for kind, (name, make, write) in KINDS.items():
            path, text = Path(folder) / name, texts()
            size = len(json.dumps(make(text)))
            write(path, [make(text) for _ in range(megabytes * 10**6 // size)])
            rates: dict[str, list[float]] = {checkout: [] for checkout in checkouts}
            for _ in range(rounds):
                for checkout, root in checkouts.items():
                    rates[checkout].append(rows_per_second(root, path))
            medians = {name: round(statistics.median(each)) for name, each in rates.items()}
            measured.append({"kind": kind, **medians})
            print(f"{kind:<28}", *(f"{name} {rate:,} rows/s" for name, rate in medians.items()))
    keep("data-check", measured)
    write_page()


def rows_per_second(root: Path, path: Path) -> float:
    """Check a file in a process with the code of a checkout."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, rows = done.stdout.split()
    return int(rows) / float(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="another checkout to measure in turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=20)
    options = parser.parse_args()
    main(options.before, options.rounds, options.megabytes)
