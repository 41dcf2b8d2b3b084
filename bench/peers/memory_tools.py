"""canifinetune and fitscout, asked how much memory a run takes, in an environment of their own."""

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


def askers(place: Path) -> dict[str, Callable[[Any, Path], str]]:
    """Return how each is asked about a cell of bench/memory.py and its model, by column.

    `place` is where their environment lies, or is made. One that cannot run says its error.
    """
    python = place / "bin" / "python"
    if not (place / "bin" / "fitscout").exists():
        venv.create(place, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=False)

    def said(command: list[Any], read: Callable[[str], float]) -> str:
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=120, check=True
            )
            return f"{read(answer.stdout):.3f}"
        except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
            return f"{type(error).__name__}: {error}"[:80]

    def canifinetune(cell: Any, model: Path) -> str:
        way = "qlora" if cell.way == "4-bit" else cell.way
        recompute = "gradient-checkpointing" if cell.recompute else "no-gradient-checkpointing"
        command = [
            *(place / "bin" / "canifinetune", "estimate", "--model", model, "--offline", "--json"),
            *("--gpu-vram-gb", "80", "--method", way, "--seq-len", str(cell.length)),
            *("--micro-batch-size", str(cell.batch), "--target-scope", "all_linear"),
            *("--quantization", "nf4" if way == "qlora" else "none", "--base-dtype", "fp32"),
            *("--optimizer", "adamw_torch", f"--{recompute}"),
        ]
        return said(command, _total)

    def fitscout(cell: Any, model: Path) -> str:
        way = "qlora" if cell.way == "4-bit" else cell.way
        facts = [model, way, str(cell.batch), str(cell.length), str(int(cell.recompute))]
        return said([python, "-c", FITSCOUT, *facts], float)

    return {"canifinetune_gib": canifinetune, "fitscout_gib": fitscout}


def _total(text: str) -> float:
    """Return the total that canifinetune names, its safety margin left out."""
    found: list[dict[str, Any]] = []

    def look(thing: Any) -> None:
        for each in thing.values() if isinstance(thing, dict) else []:
            look(each)
        if isinstance(thing, dict) and "total_estimated_gb" in thing:
            found.append(thing)

    look(json.loads(text))
    return float(found[0]["total_estimated_gb"] - found[0].get("safety_margin_gb", 0.0))
