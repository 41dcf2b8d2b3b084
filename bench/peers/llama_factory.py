"""Compare an app run with recommended settings to LLaMA-Factory 0.9.5, in fair rounds.

LLaMA-Factory trains with the settings of its LoRA example (batch 1, 8 accumulated, bf16, gradient
checkpointing), and with settings tuned for this work (batch 8, no gradient checkpointing, the
schedule of the others); rank, learning rate and seed are the same for all. It runs in an
environment of its own, made on the first call (one or two GB, some minutes) in
MODELFORGE_BENCH_PEERS or the user's cache.

    python bench/peers/llama_factory.py [ROUNDS] [STEPS]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import recommended  # noqa: E402
import rounds  # noqa: E402
import short_rows  # noqa: E402
from harness import conditions, keep, kept, own_home, recorded, titled  # noqa: E402

NAME = "llama_factory"
VERSION = "0.9.5"


OURS, BASELINE = "recommended", "example"
TITLES = {
    OURS: "ModelForge, recommended settings",
    BASELINE: f"LLaMA-Factory {VERSION}, LoRA example",
    "tuned": f"LLaMA-Factory {VERSION}, tuned",
}
TUNED = {
    "per_device_train_batch_size": recommended.ROWS_PER_STEP,
    "gradient_accumulation_steps": 1,
    "disable_gradient_checkpointing": True,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.0,
}


def main(count: int = 3, steps: int = 12) -> list[str]:
    """Measure `count` rounds and return the lines of the report."""
    python = environment()
    with recorded(NAME), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = short_rows.write(folder, recommended.ROWS_PER_STEP * steps)
        home = own_home(folder / "home")
        peer = partial(peer_run, python, home.starter_model, files, steps, folder)
        programs: dict[str, Callable[[int], dict[str, Any]]] = {
            OURS: partial(recommended.recommended_run, home, files, steps),
            BASELINE: partial(peer, {}),
            "tuned": partial(peer, TUNED),
        }
        keep(NAME, rounds.measure(programs, BASELINE, count))
    return lines()


def environment() -> Path:
    """Return the Python of LLaMA-Factory's environment, which is made if missing."""
    given = os.environ.get("MODELFORGE_BENCH_PEERS")
    root = Path(given) if given else Path.home() / ".cache" / "modelforge-bench"
    folder = root / NAME
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = folder / f"made-{VERSION}"
    if done.exists():
        return python
    print(f"Making {folder}: this takes some minutes, once.", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-r", str(HERE / f"{NAME}.txt")], check=True)
    subprocess.run([*pip, "--no-deps", f"llamafactory=={VERSION}"], check=True)
    # It always imports torchaudio, which text does not need.
    stand_in = folder / "stand-in" / "torchaudio"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").write_text('"""Stands for torchaudio."""\n', encoding="utf-8")
    done.touch()
    return python


def peer_run(
    python: Path,
    model: Path,
    files: short_rows.Files,
    steps: int,
    folder: Path,
    changes: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Train with LLaMA-Factory's example and `changes`; return the figures of the run."""
    data = {"rows": {"file_name": str(files.alpaca)}}
    (folder / "dataset_info.json").write_text(json.dumps(data), encoding="utf-8")
    settings, out = folder / "peer.yaml", folder / "peer.json"
    # YAML reads JSON too.
    values = example(model, folder, steps) | changes | {"seed": seed}
    settings.write_text(json.dumps(values), encoding="utf-8")
    environ = os.environ | {
        "DISABLE_VERSION_CHECK": "1",
        "PYTHONPATH": str(python.parent.parent / "stand-in"),
        "HF_HUB_OFFLINE": "1",
    }
    with (folder / "peer.log").open("ab") as log:
        done = subprocess.run(
            [str(python), str(HERE / f"{NAME}_run.py"), str(settings), str(out)],
            env=environ,
            stdout=log,
            stderr=log,
            check=False,
        )
    if done.returncode:
        raise RuntimeError((folder / "peer.log").read_text("utf-8", "replace")[-4000:])
    figures = recommended.figures_of(json.loads(out.read_text("utf-8"))["steps"])
    return figures | {"loss": recommended.evaluate(model, files, str(folder / "peer"))}


def example(model: Path, folder: Path, steps: int) -> dict[str, Any]:
    """Return the settings of its LoRA example, for this model and these rows."""
    return {
        "model_name_or_path": str(model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 16,
        "lora_target": "all",
        "dataset": "rows",
        "dataset_dir": str(folder),
        "template": "chatml",
        "cutoff_len": 2048,
        "output_dir": str(folder / "peer"),
        "overwrite_output_dir": True,
        "overwrite_cache": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": recommended.ROWS_PER_STEP,
        "learning_rate": recommended.LEARNING_RATE,
        "max_steps": steps,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "bf16": True,
        "use_cpu": True,
        "report_to": "none",
        "include_num_input_tokens_seen": "non_padding",
    }


def lines() -> list[str]:
    """Return the lines of the report from the stored figures."""
    rows = kept(NAME)
    if not rows:
        return []
    return [
        "The same model and rows; LLaMA-Factory counts the line break behind each message too.",
        "",
        *rounds.table(rows, TITLES, OURS),
        "",
        rounds.summary(rows),
    ]


def section() -> list[str]:
    """Return the section of docs/performance.md."""
    return titled("Against LLaMA-Factory (`bench/peers/llama_factory.py`)", NAME, lines())


if __name__ == "__main__":
    print(conditions())
    print("\n".join(main(*(int(word) for word in sys.argv[1:]))))
