"""Compare the memory estimate with the peak of runs, both without the CUDA context."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

from bench.gpu_steps.record import Record, run_step
from bench.gpu_steps.runs import DEVICE, forge, layer, settings, train
from bench.like_with_like import tensors_gib

SHAPES, WAYS, LENGTHS = ("0.6B", "1.7B"), {"lora": {}, "4-bit": {"use_4bit": True}}, (512, 2048)
AT_ONCE = 4
CONTEXT = """
import torch
torch.zeros(1, device="cuda")
free, total = torch.cuda.mem_get_info()
print((total - free - torch.cuda.memory_reserved()) / 2**30)
"""


def main(record: Record) -> None:
    """Measure the cells, four at a time, and estimate them meanwhile."""
    if DEVICE == "cuda":
        record.measure("context_gib", context_gib)
    cells = list(product(SHAPES, WAYS, LENGTHS))
    values = {cell: _settings(cell) for cell in cells}
    table: dict[tuple[str, str, int], dict[str, Any]] = {
        cell: dict(zip(("shape", "way", "length"), cell, strict=True)) for cell in cells
    }

    def measure(cell: tuple[str, str, int]) -> None:
        services = forge("-".join(map(str, cell)))
        result = train(services, values[cell])
        services.close()
        table[cell] |= {"peak_gib": result.get("vram_gib"), "ended": result["ended"]}
        if result["ended"] != "finished":
            table[cell]["why"] = result.get("why")
        record.keep(cells=list(table.values()))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        measured = pool.map(measure, cells)
        for cell in cells:
            table[cell] |= _estimates(values[cell])
        list(measured)
    for row in table.values():
        for basis in ("formula", "traced"):
            estimate, peak = row.get(f"{basis}_gib"), row.get("peak_gib")
            if estimate and peak:
                row[f"{basis}_off"] = f"{estimate / peak - 1:+.1%}"
    record.keep(cells=list(table.values()))


def context_gib() -> float:
    """Return the memory of a CUDA context, measured while nothing else starts."""
    command = [sys.executable, "-c", CONTEXT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(done.stdout.split()[-1]), 3)


def _settings(cell: tuple[str, str, int]) -> dict[str, Any]:
    shape, way, length = cell
    return settings(shape, length, max_steps=2, **WAYS[way])


def _estimates(values: dict[str, Any]) -> dict[str, Any]:
    services = forge("estimates")
    try:
        formula = services.preflight.check(layer(values)).report
        traced = services.preflight.trace_memory(layer(values)).report
        return {"formula_gib": tensors_gib(formula), "traced_gib": tensors_gib(traced)}
    except Exception as error:  # noqa: BLE001  # the peaks count without estimates too
        return {"estimate": f"{type(error).__name__}: {error}"[:300]}
    finally:
        services.close()


if __name__ == "__main__":
    run_step(main)
