"""Compare an app run with recommended settings to Soup 0.77.0, in fair rounds.

Soup trains with its defaults (4 batches accumulated, here of 2 rows; cosine schedule), and with
settings tuned for this work (batch 8, the schedule of the others). Rank, layers, learning rate and
seed are the same for all. On a CPU, Soup always computes in fp32, and without recomputation by
default; its 4-bit default is off, since it is for GPUs.

    python bench/peers/soup.py [ROUNDS] [STEPS]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import peer  # noqa: E402
import recommended  # noqa: E402
import rounds  # noqa: E402
import short_rows  # noqa: E402
from harness import conditions, keep, kept, own_home, recorded, titled  # noqa: E402

NAME = "soup"
VERSION = "0.77.0"
OURS, BASELINE = "recommended", "defaults"
TITLES = {
    OURS: "ModelForge, recommended settings",
    BASELINE: f"Soup {VERSION}, defaults",
    "tuned": f"Soup {VERSION}, tuned",
}
DEFAULTS = {"batch_size": 2, "gradient_accumulation_steps": 4}
TUNED = {
    "batch_size": recommended.ROWS_PER_STEP,
    "gradient_accumulation_steps": 1,
    "scheduler": "linear",
    "warmup_ratio": 0.0,
    "weight_decay": 0.0,
}
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main(count: int = 3, steps: int = 12) -> list[str]:
    """Measure `count` rounds and return the lines of the report."""
    python = peer.environment(NAME, VERSION, [["torch==2.13.0"], [f"soup-cli[train]=={VERSION}"]])
    with recorded(NAME), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = short_rows.write(folder, recommended.ROWS_PER_STEP * steps)
        home = own_home(folder / "home")
        trained = partial(peer_run, python, home.starter_model, files, folder)
        programs: dict[str, Callable[[int], dict[str, Any]]] = {
            OURS: partial(recommended.recommended_run, home, files, steps),
            BASELINE: partial(trained, DEFAULTS),
            "tuned": partial(trained, TUNED),
        }
        keep(NAME, rounds.measure(programs, BASELINE, count))
    return lines()


def peer_run(
    python: Path,
    model: Path,
    files: short_rows.Files,
    folder: Path,
    training: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Train with Soup's defaults and `training`; return the figures of the run."""
    rows = folder / "messages.jsonl"
    with rows.open("w", encoding="utf-8") as file:
        for line in files.chats.read_text("utf-8").splitlines():
            row = json.loads(line)
            file.write(json.dumps({"messages": row["prompt"] + row["completion"]}) + "\n")
    values = settings(
        peer.model_for(folder, model), rows, files.template, training | {"seed": seed}
    )
    # Its records of runs go there, not into the user's home.
    environ = {"HOME": str(folder), "USERPROFILE": str(folder)}
    return peer.train(python, NAME, values, folder, environ, model, files)


def settings(model: Path, rows: Path, template: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run: one epoch of the rows."""
    return {
        "base": str(model),
        "task": "sft",
        "data": {
            "train": str(rows),
            "format": "chatml",
            "val_split": 0.0,
            "chat_template": template.read_text("utf-8"),
        },
        "training": {
            "epochs": 1,
            "lr": recommended.LEARNING_RATE,
            "quantization": "none",
            "logging_steps": 1,
            "lora": {"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": LAYERS},
            **training,
        },
        "output": "peer",
    }


def lines() -> list[str]:
    """Return the lines of the report from the stored figures."""
    rows = kept(NAME)
    if not rows:
        return []
    ours = "bf16" if recommended.computed_in_bf16(rows) else "fp32"
    return [
        f"The same model and rows. Soup computes in fp32, ModelForge in {ours}.",
        "",
        *rounds.table(rows, TITLES, OURS),
        "",
        rounds.summary(rows),
    ]


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    return titled("Against Soup (`bench/peers/soup.py`)", NAME, lines())


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(*(int(word) for word in sys.argv[1:]))))
