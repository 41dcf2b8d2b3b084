"""Memory estimates of canifinetune and fitscout, run in an environment of their own."""

from __future__ import annotations

import json
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEERS = ("canifinetune==0.4.1", "fitscout==0.1.1")
FITSCOUT = """
import sys
from fitscout import inspect_model
from fitscout.memory.estimator import estimate_memory
model, way, batch, length, recompute = sys.argv[1:]
print(estimate_memory(inspect_model(model), method=way, micro_batch=int(batch),
      seq_len=int(length), grad_ckpt=recompute == "1", lora_rank=16).total_gb)
"""


def estimators(folder: Path) -> dict[str, Callable[[Any, Path], str]]:
    """Return, by CSV column, functions that estimate a cell of bench/memory.py with its model.

    `folder` has their environment, which is made if missing. An error is returned as text.
    """
    python = folder / "bin" / "python"
    if not (folder / "bin" / "fitscout").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=False)

    def run(command: list[Any], read: Callable[[str], float]) -> str:
        try:
            process = subprocess.run(
                command, capture_output=True, text=True, timeout=120, check=True
            )
            return f"{read(process.stdout):.3f}"
        except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
            return f"{type(error).__name__}: {error}"[:80]

    def canifinetune(cell: Any, model: Path) -> str:
        way = "qlora" if cell.way == "4-bit" else cell.way
        recompute = "gradient-checkpointing" if cell.recompute else "no-gradient-checkpointing"
        command = [
            *(folder / "bin" / "canifinetune", "estimate", "--model", model, "--offline", "--json"),
            *("--gpu-vram-gb", "80", "--method", way, "--seq-len", str(cell.length)),
            *("--micro-batch-size", str(cell.batch), "--target-scope", "all_linear"),
            *("--quantization", "nf4" if way == "qlora" else "none", "--base-dtype", "fp32"),
            *("--optimizer", "adamw_torch", f"--{recompute}"),
        ]
        return run(command, _total)

    def fitscout(cell: Any, model: Path) -> str:
        way = "qlora" if cell.way == "4-bit" else cell.way
        arguments = [model, way, str(cell.batch), str(cell.length), str(int(cell.recompute))]
        return run([python, "-c", FITSCOUT, *arguments], float)

    return {"canifinetune_gib": canifinetune, "fitscout_gib": fitscout}


def _total(text: str) -> float:
    """Return the total of canifinetune without its safety margin."""
    totals: list[dict[str, Any]] = []

    def collect(value: Any) -> None:
        if not isinstance(value, dict):
            return
        for item in value.values():
            collect(item)
        if "total_estimated_gb" in value:
            totals.append(value)

    collect(json.loads(text))
    return float(totals[0]["total_estimated_gb"] - totals[0].get("safety_margin_gb", 0.0))
