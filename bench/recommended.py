"""Compare an app run with recommended settings to plain TRL scripts, in fair rounds.

All train on the same short rows in the same order, 8 rows per step, with the same learning rate;
only tokens that are not padding count. Every adapter is evaluated on the same rows. TRL trains with
its defaults, with recomputation (gradient checkpointing) off, with bf16 weights, and with both. On
processors without instructions for bf16, which is many times slower there, all compute in fp32.

    python bench/recommended.py [ROUNDS] [STEPS]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import rounds
import short_rows
from harness import ROOT, conditions, keep, kept, own_home, recorded, titled

from modelforge.config.plan.make import DEFAULT_LOSS_PIECE, LOSS_PIECE
from modelforge.config.resolve import Layer
from modelforge.forge import Forge
from modelforge.hardware.machine import bf16_flags

NAME = "recommended"
LEARNING_RATE = 2e-4
ROWS_PER_STEP = 8


OURS, BASELINE = "recommended", "bare"
TITLES = {
    OURS: "ModelForge, recommended settings",
    BASELINE: "TRL, defaults",
    "no_recomputation": "TRL, recomputation off",
    "bf16_weights": "TRL, bf16 weights",
    "both": "TRL, recomputation off, bf16 weights",
}
NO_RECOMPUTATION = {"gradient_checkpointing": False}
FP32_VARIANTS: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "no_recomputation": {"args": NO_RECOMPUTATION},
}
VARIANTS = FP32_VARIANTS | {
    "bf16_weights": {"dtype": "bfloat16"},
    "both": {"args": NO_RECOMPUTATION, "dtype": "bfloat16"},
}
HAS_BF16 = bool(bf16_flags())


def main(count: int = 5, steps: int = 12) -> list[str]:
    """Measure `count` rounds and return the lines of the report."""
    with recorded(NAME), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = short_rows.write(folder, ROWS_PER_STEP * steps)
        home = own_home(folder / "home")
        programs: dict[str, Callable[[int], dict[str, Any]]] = {
            OURS: partial(recommended_run, home, files, steps)
        }
        for name, variant in (VARIANTS if HAS_BF16 else FP32_VARIANTS).items():
            programs[name] = partial(bare_run, home.starter_model, files, steps, folder, variant)
        keep(NAME, rounds.measure(programs, BASELINE, count))
    return lines()


def recommended_run(
    home: Any, files: short_rows.Files, max_steps: int, seed: int
) -> dict[str, Any]:
    """Train with TRL's defaults and the recommended changes; return the figures of the run."""
    forge = Forge(home)
    try:
        defaults = Layer("bench", settings(files, max_steps, seed))
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
        "tokens_per_s": round(tokens / (steps[-1].t - steps[0].t), 2),
        "tokens": sum(step.data["tokens"] for step in steps),
        "train_loss": round(steps[-1].data["loss"], 4),
        "loss": evaluate(home.starter_model, files, adapter),
        "predicted_times": round(predicted, 2),
        "bf16": int(HAS_BF16),
        "settings": " ".join(f"{name}={json.dumps(value)}" for name, value in changes.items()),
    }


def settings(files: short_rows.Files, max_steps: int, seed: int) -> dict[str, Any]:
    """Return the settings that equal TRL's defaults."""
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": str(files.pairs),
        "compute_specs": "low_end",
        "model": {"chat_template": str(files.template)},
        "use_4bit": False,
        "bf16": HAS_BF16,
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
        "trainer": {"seed": seed},
    }


def bare_run(
    model: Path,
    files: short_rows.Files,
    max_steps: int,
    folder: Path,
    variant: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Train with TRL's defaults and those of `variant`; return the figures of the run."""
    adapter = folder / "bare-adapter"
    args = {
        "max_steps": max_steps,
        "learning_rate": LEARNING_RATE,
        "bf16": HAS_BF16,
        **variant.get("args", {}),
    }
    values = {
        "seed": seed,
        "args": args,
        "lora": {"r": 16, "lora_alpha": 32},
        "dtype": variant.get("dtype", "float32"),
        "loss_chunk": None,
        "adapter": str(adapter),
    }
    figures = bare_figures(model, files, values, folder / "bare.json")
    return figures | {"loss": evaluate(model, files, str(adapter))}


def bare_figures(
    model: Path, files: short_rows.Files, values: dict[str, Any], out: Path
) -> dict[str, Any]:
    """Run bench/bare_trl.py; return speed after the first step, tokens and last loss."""
    script = ROOT / "bench" / "bare_trl.py"
    arguments = (model, files.chats, files.template, json.dumps(values), out)
    process = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise RuntimeError(process.stderr[-4000:])
    return figures_of(json.loads(out.read_text("utf-8"))["steps"])


def figures_of(steps: list[dict[str, float]]) -> dict[str, Any]:
    """Return speed after the first step, tokens and last loss of a script's steps."""
    first, last = steps[0], steps[-1]
    speed = (last["tokens"] - first["tokens"]) / (last["t"] - first["t"])
    return {
        "tokens_per_s": round(speed, 2),
        "tokens": int(last["tokens"]),
        "train_loss": round(last["loss"], 4),
    }


def evaluate(model: Path, files: short_rows.Files, adapter: str) -> float:
    """Return the evaluation loss of an adapter, computed by bench/held_out.py."""
    script = ROOT / "bench" / "held_out.py"
    process = subprocess.run(
        [sys.executable, *map(str, (script, model, files.template, files.held_out, adapter))],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return round(json.loads(process.stdout)[0], 5)


def lines() -> list[str]:
    """Return the lines of the report from the stored figures."""
    rows = kept(NAME)
    if not rows:
        return []
    chunk = LOSS_PIECE.get("cpu", DEFAULT_LOSS_PIECE)
    bf16 = computed_in_bf16(rows)
    predicted = statistics.median(
        row.get(f"{OURS}_predicted_times", row.get("predicted_times", 0)) for row in rows
    )
    used = rows[-1].get(f"{OURS}_settings", rows[-1].get("settings"))
    titles = {name: TITLES[name] for name in (OURS, *(VARIANTS if bf16 else FP32_VARIANTS))}
    return [
        (
            "The starter model, LoRA r 16 without dropout, short rows of the samples "
            f"({short_rows.LENGTHS}; such rows gain most from padding-free batches), 8 rows per "
            f"step. TRL has its defaults (batch 8, {computation(bf16)}, weights in fp32 as for a "
            "model given by name, gradient checkpointing, padding) but for what a line names. The "
            f"loss is computed for {chunk} tokens at a time by ModelForge on CPUs, for "
            f"{DEFAULT_LOSS_PIECE} by TRL."
        ),
        "",
        *rounds.table(rows, titles, OURS),
        "",
        f"{rounds.summary(rows)} Predicted before the runs: {predicted:.2f} times TRL's defaults.",
        "",
        f"- Recommended settings: `{used}`",
    ]


def computed_in_bf16(rows: rounds.Rows) -> bool:
    """Return whether the programs computed in bf16; all did before this was recorded."""
    return bool(float(rows[-1].get(f"{OURS}_bf16", 1)))


def computation(bf16: bool) -> str:
    """Return in which number format the programs computed, as part of a sentence."""
    return "bf16 computation" if bf16 else "fp32 computation, as this processor has no bf16"


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    return titled("Recommended settings (`bench/recommended.py`)", NAME, lines())


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(*(int(word) for word in sys.argv[1:]))))
