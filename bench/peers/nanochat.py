"""Train with nanochat's own base_train on the CPU, and read its tokens per second.

Needs a checkout of nanochat in MODELFORGE_BENCH_NANOCHAT and a C++ compiler, since base_train
compiles its model; two packages are installed beside it on the first call. Its torch is that of
this environment. Its model of the same depth, width and context is not the same model: it has value
embeddings and more scalars.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CHECKOUT = "MODELFORGE_BENCH_NANOCHAT"
PACKAGES = ("rustbpe", "tiktoken", "filelock", "requests")
# It logs to Weights & Biases unless the run is called dummy, but always imports it.
STAND_INS = ("wandb",)
STEP = re.compile(r"^step (\d+)/.*\| loss: ([\d.]+) .*\| dt: ([\d.]+)ms", re.MULTILINE)
BITS = re.compile(r"Validation bpb: ([\d.]+)")


def checkout() -> Path | None:
    """Return the folder of nanochat, or None without one."""
    given = os.environ.get(CHECKOUT)
    return Path(given).resolve() if given else None


def prepare(source: Path, folder: Path, train: list[str], held_out: list[str], size: int) -> None:
    """Install the packages, write the texts as its shards, and train its tokenizer.

    Args:
        source: checkout of nanochat.
        folder: its base folder.
        train: texts to train on.
        held_out: texts of the last shard, which it evaluates.
        size: tokens of the tokenizer.
    """
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(_packages(folder))]
    subprocess.run([*pip, *PACKAGES], check=True)
    for name in STAND_INS:
        text = f'"""Stands for {name}."""\n'
        (_packages(folder) / f"{name}.py").write_text(text, encoding="utf-8")
    shards = folder / "base_data_climbmix"
    shards.mkdir(parents=True)
    for number, texts in enumerate((train, held_out)):
        table = pa.table({"text": texts})
        pq.write_table(table, shards / f"shard_{number:05d}.parquet", row_group_size=64)
    _run(source, folder, "scripts.tok_train", {"vocab-size": size, "doc-cap": 10**9})


def train(source: Path, folder: Path, options: dict[str, Any], skipped: int) -> dict[str, Any]:
    """Train with base_train; return the tokens per second after the first steps, and its bits.

    Args:
        source: checkout of nanochat.
        folder: its base folder after `prepare`.
        options: of base_train, without dashes.
        skipped: steps that do not count: it compiles in the first.
    """
    text = _run(source, folder, "scripts.base_train", options)
    return figures(text, options["total-batch-size"], skipped)


def figures(text: str, batch: int, skipped: int) -> dict[str, Any]:
    """Return the figures of what base_train printed; `batch` is in tokens."""
    steps = STEP.findall(text)
    times = [float(ms) / 1000 for step, _loss, ms in steps if int(step) >= skipped]
    bits = BITS.findall(text)
    return {
        "tokens_per_s": round(batch / statistics.fmean(times), 1),
        "tokens": batch * (len(times) + skipped),
        # It prints a mean over the last steps, not the loss of the last one.
        "train_loss": float(steps[-1][1]),
        "bits_per_byte": float(bits[-1]) if bits else None,
    }


def _packages(folder: Path) -> Path:
    return folder / "packages"


def _run(source: Path, folder: Path, module: str, options: dict[str, Any]) -> str:
    arguments = [f"--{name}={value}" for name, value in options.items()]
    paths = os.pathsep.join([str(_packages(folder)), str(source)])
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=source,
        env=os.environ | {"NANOCHAT_BASE_DIR": str(folder), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-4000:])
    return done.stdout
