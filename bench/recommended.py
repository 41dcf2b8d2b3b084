"""Compare an app run with recommended settings to TRL with its defaults, in interleaved pairs.

Both train on the same short rows in the same order, 8 rows per step, with the same learning rate;
only tokens that are not padding count. Both adapters are evaluated on the same rows.

    python bench/recommended.py [PAIRS] [STEPS]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import short_rows
from harness import ROOT, conditions, keep, kept, own_home, recorded, spread, titled

from modelforge.config.resolve import Layer
from modelforge.forge import Forge

NAME = "recommended"
LEARNING_RATE = 2e-4
ROWS_PER_STEP = 8


def main(pairs: int = 5, steps: int = 12) -> list[str]:
    """Measure `pairs` pairs of runs and return the lines of the report."""
    rows = []
    with recorded(NAME), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = short_rows.write(folder, ROWS_PER_STEP * steps)
        home = own_home(folder / "home")
        for number in range(pairs):
            ours = recommended_run(home, files, steps)
            bare = bare_run(home.starter_model, files, steps, folder)
            losses = evaluate(home.starter_model, files, ours.pop("adapter"), bare.pop("adapter"))
            row = {"pair": number} | ours | bare
            row |= {"recommended_loss": losses[0], "bare_loss": losses[1]}
            rows.append(row)
            print(rows[-1], flush=True)
    keep(NAME, rows)
    return lines()


def recommended_run(home: Any, files: short_rows.Files, max_steps: int) -> dict[str, Any]:
    """Train with TRL's defaults and the recommended changes; return speed and adapter."""
    forge = Forge(home)
    try:
        defaults = Layer("bench", settings(files, max_steps))
        changes = forge.preflight.recommended(defaults)
        recommended = Layer("recommended", changes)
        before, after = (
            forge.preflight.check(*layers).report
            for layers in ((defaults,), (defaults, recommended))
        )
        run = forge.runs.start(defaults, recommended)
        while not forge.runs.state(run).is_over:
            time.sleep(0.2)
        events, _ = forge.runs.events(run)
        if events[-1].kind != "finished":
            raise RuntimeError(forge.runs.log(run))
        adapter = str(home.runs / run / events[-1].data["output"])
    finally:
        forge.close()
    steps = [event for event in events if event.kind == "step"]
    tokens = sum(step.data["tokens"] for step in steps[1:])
    predicted = (after.tokens_per_s or 0) / (before.tokens_per_s or 1) if before and after else 0
    return {
        "recommended_tokens_per_s": round(tokens / (steps[-1].t - steps[0].t), 2),
        "recommended_tokens": sum(step.data["tokens"] for step in steps),
        "predicted_times": round(predicted, 2),
        "predicted_tokens_per_s": after.tokens_per_s if after else None,
        "settings": " ".join(f"{name}={json.dumps(value)}" for name, value in changes.items()),
        "adapter": adapter,
    }


def settings(files: short_rows.Files, max_steps: int) -> dict[str, Any]:
    """Return the settings that equal TRL's defaults."""
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": str(files.pairs),
        "compute_specs": "low_end",
        "model": {"chat_template": str(files.template)},
        "use_4bit": False,
        "bf16": True,
        "lora_dropout": 0.0,
        "per_device_train_batch_size": ROWS_PER_STEP,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": True,
        "group_by_length": False,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "max_seq_length": 1024,
        "max_steps": max_steps,
        "eval_split": 0,
    }


def bare_run(model: Path, files: short_rows.Files, max_steps: int, folder: Path) -> dict[str, Any]:
    """Train with TRL's defaults; return speed and adapter."""
    out, adapter = folder / "bare.json", folder / "bare-adapter"
    script = ROOT / "bench" / "bare_defaults.py"
    arguments = (model, files.chats, files.template, max_steps, LEARNING_RATE, out, adapter)
    subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    steps = json.loads(out.read_text("utf-8"))["steps"]
    first, last = steps[0], steps[-1]
    return {
        "bare_tokens_per_s": round(
            (last["tokens"] - first["tokens"]) / (last["t"] - first["t"]), 2
        ),
        "bare_tokens": last["tokens"],
        "adapter": str(adapter),
    }


def evaluate(model: Path, files: short_rows.Files, *adapters: str) -> list[float]:
    """Return the evaluation loss of each adapter, computed by bench/held_out.py."""
    script = ROOT / "bench" / "held_out.py"
    arguments = (model, files.template, files.held_out, *adapters)
    process = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return [round(loss, 5) for loss in json.loads(process.stdout)]


def lines() -> list[str]:
    """Return the lines of the report from the stored figures."""
    rows = kept(NAME)
    if not rows:
        return []
    ratios = [row["recommended_tokens_per_s"] / row["bare_tokens_per_s"] for row in rows]
    difference = [100 * (row["recommended_loss"] / row["bare_loss"] - 1) for row in rows]
    ours = [row["recommended_tokens_per_s"] for row in rows]
    bare = [row["bare_tokens_per_s"] for row in rows]
    predicted = statistics.median(row["predicted_times"] for row in rows)
    return [
        (
            "The starter model, LoRA r 16, short rows of the samples, 8 rows per step; TRL with "
            "its defaults (batch 8, bf16, gradient checkpointing, padding), PEFT with its own (no "
            "dropout)."
        ),
        "",
        (
            f"- Recommended settings ÷ TRL's defaults, useful tokens/s: {spread(ratios)} "
            f"(aim ≥ 1.8; predicted {predicted:.2f}; {len(rows)} interleaved pairs)"
        ),
        (
            f"- Useful tokens/s: {spread(ours, 0)} against {spread(bare, 0)}; predicted "
            f"{statistics.median(row['predicted_tokens_per_s'] for row in rows):.0f}"
        ),
        (
            f"- Evaluation loss on the same rows after the same tokens, difference: "
            f"{spread(difference)} % (aim within 0.5; below 0 is better)"
        ),
        f"- Recommended settings: `{rows[-1]['settings']}`",
    ]


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    return titled("Recommended settings (`bench/recommended.py`)", NAME, lines())


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(*(int(word) for word in sys.argv[1:]))))
