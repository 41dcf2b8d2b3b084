"""The memory estimate against what runs really take, cell by cell, and peers on the same cells.

    python bench/memory.py [cpu|cuda|estimates]

`cpu` runs the cells, each a short run of the worker in a process of its own, and reads the highest
resident memory of that process; cells that are in the CSV already are not run again. `estimates`
only works the estimates out anew. Model shapes other than the starter have random weights.
"""

from __future__ import annotations

import csv
import json
import random
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from harness import RESULTS, ROOT, conditions, keep, starter_home, titled
from peers.memory_tools import askers
from shapes import CARD_SHAPES, SHAPES, make

from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.home import Home

PLACE = ROOT / ".venv" / "bench-memory"
NAME = "memory-estimates"
MEASURED = {"cpu": RESULTS / "memory.csv", "cuda": RESULTS / "memory-cuda.csv"}
GIB = 2**30
WAYS = {"full": {"adapter.enabled": False}, "lora": {}, "4-bit": {"use_4bit": True}}
# The constants of the estimate come from these cells, which are not reported.
CALIBRATED_ON = "llama"
WORDS = [
    *("the", "small", "red", "engine", "carried", "seven", "wooden"),
    *("boxes", "over", "a", "quiet", "valley", "before", "noon"),
]


UPDATES, MIXED_UPDATES = 2, 50


@dataclass(frozen=True)
class Cell:
    """One run: a shape, a way to train it, and what its memory depends on.

    A `mixed` one makes many updates in 16 bits on batches of ever other lengths, without padding;
    the others two, in the device's own numbers, on rows that are all cut at one length.
    """

    shape: str
    way: str
    length: int
    batch: int
    recompute: bool
    mixed: bool = False


def cells(device: str) -> Iterator[Cell]:
    """Yield the cells of a device: all that can be put together, on the CPU a balanced half."""
    if device == "cuda":
        four = product(("starter", *CARD_SHAPES), WAYS, (512, 2048), (1, 4), (False, True))
        yield from (Cell(*each) for each in four)
        return
    for shape, way in product(("llama", "starter", "qwen3", "gemma3"), WAYS):
        if shape == CALIBRATED_ON:
            yield Cell(shape, way, 256, 2, recompute=False)
            yield Cell(shape, way, 256, 2, recompute=True)
            continue
        yield Cell(shape, way, 128, 4, recompute=False)
        yield Cell(shape, way, 384, 1, recompute=False)
        yield Cell(shape, way, 384, 4, recompute=True)
        if shape == "starter":
            yield Cell(shape, way, 384, 4, recompute=False)
    yield Cell("llama", "lora", 96, 2, recompute=False, mixed=True)
    yield Cell("starter", "lora", 64, 4, recompute=False, mixed=True)
    yield Cell("starter", "full", 96, 2, recompute=False, mixed=True)
    yield Cell("starter", "4-bit", 64, 4, recompute=True, mixed=True)
    yield Cell("qwen3", "lora", 128, 2, recompute=False, mixed=True)
    yield Cell("gemma3", "lora", 128, 4, recompute=True, mixed=True)


def answers(cell: Cell, rows: Path, device: str) -> dict[str, Any]:
    """Return what is asked of the app: some updates and one evaluation."""
    updates = MIXED_UPDATES if cell.mixed else UPDATES
    mixed = {"data.padding_free": True, "hardware.precision": "bf16"} if cell.mixed else {}
    return {
        "task": "text-generation",
        "model_name": "starter" if cell.shape == "starter" else str(PLACE / "models" / cell.shape),
        "dataset": str(rows / (f"mixed-{cell.length}.jsonl" if cell.mixed else "long.jsonl")),
        "compute_specs": "low_end",
        "use_4bit": False,
        "per_device_train_batch_size": cell.batch,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": cell.recompute,
        "optim": "adamw_torch",
        "max_seq_length": cell.length,
        "max_steps": updates,
        "eval_steps": updates,
        "eval_split": 0.1,
        "hardware.device": device,
        **WAYS[cell.way],
        **mixed,
    }


def prepared(device: str) -> tuple[Home, Path]:
    """Return a home with the starter model and the shapes of a device, and the folder of rows."""
    home = Home(PLACE / "home")
    if not home.starter.exists():
        home.starter.parent.mkdir(parents=True)
        home.starter.symlink_to(starter_home() / "models" / "starter")
    shapes = CARD_SHAPES if device == "cuda" else SHAPES
    for name, shape in shapes.items():
        make(PLACE / "models" / name, shape, home.starter)
    rows = PLACE / "rows"
    rows.mkdir(exist_ok=True)
    _write(rows / "long.jsonl", [4000] * 40)
    for length in {cell.length for cell in cells(device) if cell.mixed}:
        drawn = random.Random(0)
        lengths = (drawn.randint(length * 2 // 3, length) for _ in range(400))
        _write(rows / f"mixed-{length}.jsonl", lengths)
    return home, rows


def _write(path: Path, lengths: Iterable[int]) -> None:
    """Write rows of so many words each, nearly all of them one token."""
    with path.open("w", encoding="utf-8") as file:
        for number, length in enumerate(lengths):
            said = (WORDS[(number * 7 + each * 3) % len(WORDS)] for each in range(length))
            file.write(json.dumps({"text": " ".join(said)}) + "\n")


def measured(home: Home, asked: dict[str, Any]) -> dict[str, Any]:
    """Run it and return the highest resident memory of the worker, or why there is none."""
    forge = Forge(home)
    peak, pid = 0, None
    try:
        run = forge.start(Layer("bench", asked))
        while not forge.state(run).is_over:
            try:
                pid = pid or json.loads(forge.folder(run).process.read_text("utf-8"))["pid"]
                status = Path(f"/proc/{pid}/status").read_text("utf-8")
                # It only grows, so the last one before the end is the highest.
                high = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                peak = max(peak, int(high.split()[1]))
            except (OSError, StopIteration, KeyError, ValueError):
                pass
            time.sleep(0.02)
        events, _ = forge.events(run)
        last = events[-1]
        ended = "" if last.kind == "finished" else str(last.data.get("what", last.kind))
        told = [event.data["vram_gib"] for event in events if event.data.get("vram_gib")]
        forge.delete(run)
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
    home.footprints.unlink(missing_ok=True)
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
            formula = forge.check(layer).report
            began = time.monotonic()
            traced = forge.footprints.ask(layer).report
            took = time.monotonic() - began
            began = time.monotonic()
            forge.footprints.ask(layer)
            again = time.monotonic() - began
            if formula is None or traced is None:
                continue
            model = home.starter if cell.shape == "starter" else PLACE / "models" / cell.shape
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
    table = [
        (
            f"{len(reported)} cells: {', '.join(dict.fromkeys(r['shape'] for r in reported))}; "
            "full, LoRA and 4-bit; the constants come from other cells (the shape "
            f"{CALIBRATED_ON}, in the CSV and not counted here, and the starter at 4 x 256), "
            "and were rounded when the first cells of the starter and qwen3 had been seen; those "
            "of gemma3 had not. Peaks are the highest "
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
