"""Server time of a form change and of Start, in process, with a stand-in worker.

python bench/form.py [ROUNDS]

A round makes one change of each kind and one start. The worker is a process that ends at once, so
that only the work of the server counts. Rows of version 0.1 come from the same calls at b0bc2d7,
run in turns with this version.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import conditions, keep, kept, own_home, recorded, spread, titled

from modelforge.forge import Forge
from ui.pages.train import response
from ui.pages.train.form import Entered

NAME = "form"
VERSION = "this version"
FORM = {"dataset": "sample:captain", "model_name": "starter"}
MEASURES = {
    "learning_rate": "Change of the learning rate, model card closed",
    "lora_r": "Change of the LoRA rank, model card closed",
    "lora_r_models": "Change of the LoRA rank, model card open",
    "start": "Start",
}


def main(rounds: int = 30) -> list[str]:
    """Measure `rounds` rounds and return the lines of the report."""
    earlier = [row for row in kept(NAME) if row["version"] != VERSION]
    with tempfile.TemporaryDirectory() as folder, recorded(NAME):
        rows = measure(Path(folder), rounds)
    keep(NAME, [*earlier, *rows])
    return lines()


def measure(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Return one row of milliseconds per round."""
    ends_at_once = [sys.executable, "-S", "-c", ""]
    forge = Forge(own_home(folder), worker=ends_at_once, warm_worker=["true"])

    def change(values: dict[str, str], *, models: bool = False) -> None:
        response.reply(forge, Entered(values=FORM | values, show_models=models))

    def start(values: dict[str, str]) -> str:
        return forge.runs.start(*forge.layers.stack(Entered(values=FORM | values)).layers)

    rows = []
    for number in range(-2, rounds):
        rank = {"lora_r": str(10 + number)}
        row: dict[str, Any] = {"version": VERSION, "round": number}
        row["learning_rate"] = _timed(change, {"learning_rate": f"{1e-5 * (5 + number)}"})
        row["lora_r"] = _timed(change, rank)
        row["lora_r_models"] = _timed(change, rank, models=True)
        row["start"] = _timed(start, rank)
        run_id = forge.runs.views(limit=1)[0].id
        while not forge.runs.state(run_id).is_over:
            time.sleep(0.02)
        forge.runs.delete(run_id)
        if number >= 0:  # the first rounds fill the caches
            rows.append(row)
    forge.close()
    return rows


def _timed(work: Callable[..., object], *args: object, **kwargs: object) -> float:
    begun = time.perf_counter()
    work(*args, **kwargs)
    return round((time.perf_counter() - begun) * 1000, 2)


def lines() -> list[str]:
    """Return a table of the medians by version."""
    rows = kept(NAME)
    if not rows:
        return []
    versions = sorted({row["version"] for row in rows})
    table = [f"| server time, ms | {' | '.join(versions)} |", "| --- |" + " ---: |" * len(versions)]
    for key, label in MEASURES.items():
        cells = [spread([row[key] for row in rows if row["version"] == one], 0) for one in versions]
        table.append(f"| {label} | {' | '.join(cells)} |")
    return table


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    return titled("The form (`bench/form.py`)", NAME, lines())


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(*(int(word) for word in sys.argv[1:]))))
