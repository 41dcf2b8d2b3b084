"""The memory estimate against what runs really take, cell by cell, and peers on the same cells.

    python bench/memory.py [cpu|cuda|estimates]

`cpu` runs the cells, each a short run of the worker in a process of its own, and reads the highest
resident memory of that process; cells that are in the CSV already are not run again. `estimates`
only works the estimates out anew. Model shapes other than the starter have random weights.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cells import CALIBRATED_ON, PLACE, Cell, answers, cells, prepared
from harness import RESULTS, conditions, keep, titled
from peers.memory_tools import askers

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.units import GIB

NAME = "memory-estimates"
MEASURED = {"cpu": RESULTS / "memory.csv", "cuda": RESULTS / "memory-cuda.csv"}


def measured(home: Home, asked: dict[str, Any]) -> dict[str, Any]:
    """Run it and return the highest resident memory of the worker, or why there is none."""
    forge = Forge(home)
    peak, pid = 0, None
    try:
        run = forge.runs.start(Layer("bench", asked))
        while not forge.runs.state(run).is_over:
            try:
                pid = pid or json.loads(forge.runs.folder(run).process.read_text("utf-8"))["pid"]
                status = Path(f"/proc/{pid}/status").read_text("utf-8")
                # It only grows, so the last one before the end is the highest.
                high = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                peak = max(peak, int(high.split()[1]))
            except (OSError, StopIteration, KeyError, ValueError):
                pass
            time.sleep(0.02)
        events, _ = forge.runs.events(run)
        last = events[-1]
        ended = "" if last.kind == "finished" else str(last.data.get("what", last.kind))
        told = [event.data["vram_gib"] for event in events if event.data.get("vram_gib")]
        forge.runs.delete(run)
    finally:
        forge.close()
    card = {"card_gib": round(max(told), 3)} if told else {}
    return {"peak_gib": round(peak * 1024 / GIB, 3), **card, "error": ended}


def measure(device: str) -> None:
    """Run every cell that has no figure yet; the CSV is written after each."""
    home, rows = prepared(device)
    path = MEASURED[device]
    done = _read(path)
    known = {_named(row) for row in done}
    for cell in cells(device):
        if _named(asdict(cell)) in known:
            continue
        row = {**asdict(cell), **measured(home, answers(cell, rows, device))}
        print(row, flush=True)
        done.append(row)
        keep(path.stem, done)


def _named(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in Cell.__dataclass_fields__)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def estimates(device: str) -> None:
    """Work out what we and the peers say of every measured cell, and keep it."""
    home, rows = prepared(device)
    home.memory_traces.unlink(missing_ok=True)
    peers = askers(PLACE / "peers")
    found = []
    forge = Forge(home)
    try:
        for row in _read(MEASURED[device]):
            cell = Cell(
                *(row["shape"], row["way"], int(row["length"]), int(row["batch"])),
                recompute=row["recompute"] == "True",
                mixed=row["mixed"] == "True",
            )
            layer = Layer("bench", answers(cell, rows, device))
            formula = forge.preflight.check(layer).report
            began = time.monotonic()
            traced = forge.memory_trace.trace(layer).report
            took = time.monotonic() - began
            began = time.monotonic()
            forge.memory_trace.trace(layer)
            again = time.monotonic() - began
            if formula is None or traced is None:
                continue
            model = home.starter_model if cell.shape == "starter" else PLACE / "models" / cell.shape
            found.append(
                {
                    **row,
                    "formula_gib": _rounded(formula.memory_total_gib),
                    "traced_gib": _rounded(traced.memory_total_gib),
                    "trace_s": round(took, 2),
                    "again_s": round(again, 3),
                    **{name: ask(cell, model) for name, ask in peers.items()},
                }
            )
            print(found[-1], flush=True)
            keep(f"{MEASURED[device].stem}-estimates", found)
    finally:
        forge.close()


def _rounded(gib: float | None) -> float | str:
    return "" if gib is None else round(gib, 3)


def lines(device: str) -> list[str]:
    """Return the lines about one device, from what lies in the CSV."""
    every = _read(RESULTS / f"{MEASURED[device].stem}-estimates.csv")
    reported = [row for row in every if row["shape"] != CALIBRATED_ON and not row["error"]]
    if not reported:
        return []
    peak = "card_gib" if device == "cuda" else "peak_gib"
    mixed = sum(row["mixed"] == "True" for row in reported)
    table = [
        (
            f"{len(reported)} cells: {', '.join(dict.fromkeys(r['shape'] for r in reported))}; "
            f"full, LoRA and 4-bit; {mixed} of them 50 updates in 16 bits on batches of ever other "
            "lengths, the others two updates on rows of one length. The constants come from other "
            f"cells (the shape {CALIBRATED_ON}, in the CSV and not counted here, and the starter "
            "at 4 x 256) and were rounded when those of the starter and qwen3 had been seen; what "
            "16-bit products and small tensors leave was set with all cells seen. Peaks are the "
            "highest "
            f"{'memory reserved on the card' if device == 'cuda' else 'resident memory'} of the "
            "worker."
        ),
        "",
        "| who | mean error | worst over | worst under |",
        "| --- | --- | --- | --- |",
    ]
    names = {"traced_gib": "traced (aim ≤ 8 %, never 3 % under)", "formula_gib": "formula"}
    names |= {"canifinetune_gib": "canifinetune 0.4.1", "fitscout_gib": "fitscout 0.1.1"}
    for column, name in names.items():
        try:
            off = [float(row[column]) / float(row[peak]) - 1 for row in reported]
        except ValueError:
            table.append(f"| {name} | does not run: {reported[0][column]} | | |")
            continue
        mean = statistics.mean(abs(each) for each in off)
        table.append(
            f"| {name} | {100 * mean:.1f} % | {100 * max(off):+.1f} % | {100 * min(off):+.1f} % |"
        )
    first = statistics.median(float(row["trace_s"]) for row in reported)
    again = max(float(row["again_s"]) for row in reported)
    return [
        *table,
        "",
        f"- A trace takes {first:.1f} s (median), an answer that is known at most {again:.3f} s.",
    ]


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    told = [*lines("cpu"), "", *lines("cuda")]
    return titled("The memory estimate (`bench/memory.py`)", NAME, told)


def main() -> list[str]:
    """Measure what is missing on the CPU, ask everybody, and return the lines of the report."""
    measure("cpu")
    estimates("cpu")
    return lines("cpu")


if __name__ == "__main__":
    print(conditions())
    asked = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    if asked in MEASURED:
        measure(asked)
    device = "cuda" if asked == "cuda" else "cpu"
    estimates(device)
    print("\n".join(lines(device)))
