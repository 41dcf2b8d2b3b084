"""Compare the memory estimate, and those of other tools, with the memory of real runs.

    python bench/memory.py [cpu|cuda|estimates]

`cpu` runs the cells, each as a short run of the worker, and reads the peak resident memory of its
process; cells that are in the CSV already are not run again. `cuda` needs no network, and
compares the memory that PyTorch reserved with estimates without the CUDA context. `estimates`
computes only the estimates again. Model shapes other than the starter have random weights.
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

from cells import CALIBRATED_ON, FOLDER, Cell, cells, prepare, settings
from harness import RESULTS, conditions, keep, titled
from like_with_like import tensors_gib
from peers.memory_tools import estimators

from modelforge.config.resolve import Layer
from modelforge.errors import ForgeError
from modelforge.forge import Forge
from modelforge.paths import Home
from modelforge.preflight.report import Report
from modelforge.units import GIB

NAME = "memory-estimates"
PEERS_ON_A_CPU = (
    "- canifinetune and fitscout estimate the memory of a GPU. Here they are compared with the "
    "memory of a process on the CPU, so their errors say little about them."
)
MEASURED = {"cpu": RESULTS / "memory.csv", "cuda": RESULTS / "memory-cuda.csv"}


def measure_run(home: Home, values: dict[str, Any]) -> dict[str, Any]:
    """Run once and return the peak resident memory of the worker, or the error."""
    forge = Forge(home)
    peak, pid = 0, None
    try:
        try:
            run = forge.runs.start(Layer("bench", values))
        except ForgeError as error:  # such as a blocker: the model is too large for this GPU
            return {"peak_gib": "", "error": str(error)[:300]}
        while not forge.runs.state(run).is_over:
            try:
                pid = pid or json.loads(forge.runs.folder(run).process.read_text("utf-8"))["pid"]
                status = Path(f"/proc/{pid}/status").read_text("utf-8")
                # VmHWM is a high-water mark, so the last value is the peak.
                high = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                peak = max(peak, int(high.split()[1]))
            except (OSError, StopIteration, KeyError, ValueError):
                pass
            time.sleep(0.02)
        events, _ = forge.runs.events(run)
        last = events[-1]
        ended = "" if last.kind == "finished" else str(last.data.get("what", last.kind))
        gpu_gib = [event.data["vram_gib"] for event in events if event.data.get("vram_gib")]
        forge.runs.delete(run)
    finally:
        forge.close()
    gpu = {"card_gib": round(max(gpu_gib), 3)} if gpu_gib else {}
    return {"peak_gib": round(peak * 1024 / GIB, 3), **gpu, "error": ended}


def measure(device: str) -> None:
    """Run every cell that is not measured yet, and write the CSV after each."""
    home, rows = prepare(device)
    path = MEASURED[device]
    done = _read(path)
    known = {_named(row) for row in done}
    for cell in cells(device):
        if _named(asdict(cell)) in known:
            continue
        row = {**asdict(cell), **measure_run(home, settings(cell, rows, device))}
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
    """Compute and store our estimates and those of the peers for every measured cell."""
    home, rows = prepare(device)
    home.memory_traces.unlink(missing_ok=True)
    # The other tools are downloaded; a GPU is measured without a network.
    peers = {} if device == "cuda" else estimators(FOLDER / "peers")
    results = []
    forge = Forge(home)
    try:
        for row in _read(MEASURED[device]):
            cell = Cell(
                *(row["shape"], row["way"], int(row["length"]), int(row["batch"])),
                recompute=row["recompute"] == "True",
                mixed=row["mixed"] == "True",
            )
            layer = Layer("bench", settings(cell, rows, device))
            formula = forge.preflight.check(layer).report
            began = time.monotonic()
            traced = forge.preflight.trace_memory(layer).report
            took = time.monotonic() - began
            began = time.monotonic()
            forge.preflight.trace_memory(layer)
            again = time.monotonic() - began
            if formula is None or traced is None:
                continue
            model = (
                home.starter_model if cell.shape == "starter" else FOLDER / "models" / cell.shape
            )
            results.append(
                {
                    **row,
                    "formula_gib": _estimate(formula, device),
                    "traced_gib": _estimate(traced, device),
                    "trace_s": round(took, 2),
                    "again_s": round(again, 3),
                    **{name: estimate(cell, model) for name, estimate in peers.items()},
                }
            )
            print(results[-1], flush=True)
            keep(f"{MEASURED[device].stem}-estimates", results)
    finally:
        forge.close()


def _estimate(report: Report, device: str) -> float | str:
    """Return the estimate of what is measured: on a GPU without the CUDA context."""
    gib = tensors_gib(report) if device == "cuda" else report.memory_total_gib
    return "" if gib is None else round(gib, 3)


def lines(device: str) -> list[str]:
    """Return the lines of the report on one device, from the CSV."""
    all_rows = _read(RESULTS / f"{MEASURED[device].stem}-estimates.csv")
    reported = [row for row in all_rows if row["shape"] != CALIBRATED_ON and not row["error"]]
    if not reported:
        return []
    peak = "card_gib" if device == "cuda" else "peak_gib"
    mixed = sum(row["mixed"] == "True" for row in reported)
    table = [
        (
            f"{len(reported)} cells: {', '.join(dict.fromkeys(r['shape'] for r in reported))}; "
            f"full, LoRA and 4-bit; {mixed} of them 50 steps in 16 bits on batches of varying "
            "lengths, the others two steps on rows of one length. The constants come from other "
            f"cells (the shape {CALIBRATED_ON}, in the CSV and not counted here, and the starter "
            "at 4 x 256) and were rounded after those of the starter and qwen3 were measured; what "
            "16-bit products and small tensors leave was set after all cells. Peaks are the "
            "highest "
            f"{'memory reserved on the GPU' if device == 'cuda' else 'resident memory'} of the "
            "worker."
        ),
        "",
        "| estimate | mean error | worst over | worst under |",
        "| --- | --- | --- | --- |",
    ]
    names = {"traced_gib": "traced (aim ≤ 8 %, never 3 % under)", "formula_gib": "formula"}
    for_gpus = "" if device == "cuda" else ", meant for GPUs"
    names |= {
        "canifinetune_gib": f"canifinetune 0.4.1{for_gpus}",
        "fitscout_gib": f"fitscout 0.1.1{for_gpus}",
    }
    for column, name in names.items():
        if column not in reported[0]:
            continue
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
        f"- A trace takes {first:.1f} s (median), a cached one at most {again:.3f} s.",
        *([] if device == "cuda" else [PEERS_ON_A_CPU]),
    ]


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    both = [*lines("cpu"), "", *lines("cuda")]
    return titled("Memory estimate (`bench/memory.py`)", NAME, both)


def main() -> list[str]:
    """Measure missing cells on the CPU, compute all estimates, and return the report's lines."""
    measure("cpu")
    estimates("cpu")
    return lines("cpu")


if __name__ == "__main__":
    print(conditions())
    command = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    if command in MEASURED:
        measure(command)
    device = "cuda" if command == "cuda" else "cpu"
    estimates(device)
    print("\n".join(lines(device)))
