"""Compare an app run with recommended settings to LLaMA-Factory 0.9.5, in fair rounds.

LLaMA-Factory trains with the settings of its LoRA example (batch 1, 8 accumulated, bf16 where the
processor has it, gradient checkpointing), and with settings tuned for this work (batch 8, no
gradient checkpointing, the schedule of the others); rank, learning rate and seed are the same for
all.

    python bench/peers/llama_factory.py [ROUNDS] [STEPS]
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
        trained = partial(peer_run, python, home.starter_model, files, steps, folder)
        programs: dict[str, Callable[[int], dict[str, Any]]] = {
            OURS: partial(recommended.recommended_run, home, files, steps),
            BASELINE: partial(trained, {}),
            "tuned": partial(trained, TUNED),
        }
        keep(NAME, rounds.measure(programs, BASELINE, count))
    return lines()


def environment() -> Path:
    """Return the Python of LLaMA-Factory's environment, which is made if missing."""
    installs = [["-r", str(HERE / f"{NAME}.txt")], ["--no-deps", f"llamafactory=={VERSION}"]]
    python = peer.environment(NAME, VERSION, installs)
    # It always imports torchaudio, which text does not need.
    stand_in = _stand_in(python) / "torchaudio"
    stand_in.mkdir(parents=True, exist_ok=True)
    (stand_in / "__init__.py").write_text('"""Stands for torchaudio."""\n', encoding="utf-8")
    return python


def _stand_in(python: Path) -> Path:
    return python.parent.parent / "stand-in"


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
    settings = example(peer.model_for(folder, model), folder, steps) | changes | {"seed": seed}
    environ = {"DISABLE_VERSION_CHECK": "1", "PYTHONPATH": str(_stand_in(python))}
    return peer.train(python, NAME, settings, folder, environ, model, files)


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
        "bf16": recommended.HAS_BF16,
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
        (
            "The same model and rows; LLaMA-Factory counts the line break behind each message too. "
            f"All with {recommended.computation(recommended.computed_in_bf16(rows))}."
        ),
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
