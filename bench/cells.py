"""The runs whose memory is measured: model shapes, settings and rows."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from harness import ROOT, starter_home
from shapes import GPU_SHAPES, SHAPES, make

from modelforge.paths import Home

FOLDER = ROOT / ".venv" / "bench-memory"
WAYS = {"full": {"adapter.enabled": False}, "lora": {}, "4-bit": {"use_4bit": True}}
# The constants of the estimate were fitted to these cells, which are not reported.
CALIBRATED_ON = "llama"
CALIBRATED_MIXED = [
    *(("lora", 96, 2, False), ("lora", 128, 4, False), ("lora", 96, 4, True)),
    *(("4-bit", 64, 4, True), ("full", 96, 2, False)),
]
WORDS = [
    *("the", "small", "red", "engine", "carried", "seven", "wooden"),
    *("boxes", "over", "a", "quiet", "valley", "before", "noon"),
]

STEPS, MIXED_STEPS = 2, 50


@dataclass(frozen=True)
class Cell:
    """One run: a model shape, a way to train it, and what its memory depends on.

    A `mixed` cell makes many steps in 16 bits on batches of varying lengths, without padding; the
    others make two in the device's default precision, on rows truncated to one length.
    """

    shape: str
    way: str
    length: int
    batch: int
    recompute: bool
    mixed: bool = False


def cells(device: str) -> Iterator[Cell]:
    """Yield the cells of a device: all combinations on a GPU, a balanced half on the CPU."""
    if device == "cuda":
        four = product(GPU_SHAPES, WAYS, (512, 2048), (1, 4), (False, True))
        yield from (Cell(*each) for each in four)
        return
    for shape, way in product(("llama", "starter", "qwen3", "gemma3"), WAYS):
        if shape == CALIBRATED_ON:
            yield Cell(shape, way, 256, 2, recompute=False)
            yield Cell(shape, way, 256, 2, recompute=True)
            continue
        yield Cell(shape, way, 128, 4, recompute=False)
        yield Cell(shape, way, 384, 1, recompute=False)
        yield Cell(shape, way, 384, 4, recompute=True)
        if shape == "starter":
            yield Cell(shape, way, 384, 4, recompute=False)
    for way, length, batch, recompute in CALIBRATED_MIXED:
        yield Cell(CALIBRATED_ON, way, length, batch, recompute, mixed=True)
    yield Cell("starter", "lora", 64, 4, recompute=False, mixed=True)
    yield Cell("starter", "full", 96, 2, recompute=False, mixed=True)
    yield Cell("starter", "4-bit", 64, 4, recompute=True, mixed=True)
    yield Cell("qwen3", "lora", 128, 2, recompute=False, mixed=True)
    yield Cell("gemma3", "lora", 128, 4, recompute=True, mixed=True)


def settings(cell: Cell, rows: Path, device: str) -> dict[str, Any]:
    """Return the settings of a cell: a few steps and one evaluation."""
    steps = MIXED_STEPS if cell.mixed else STEPS
    mixed = {"data.padding_free": True, "hardware.precision": "bf16"} if cell.mixed else {}
    return {
        "task": "text-generation",
        "model_name": "starter" if cell.shape == "starter" else str(FOLDER / "models" / cell.shape),
        "dataset": str(rows / (f"mixed-{cell.length}.jsonl" if cell.mixed else "long.jsonl")),
        "compute_specs": "low_end",
        "use_4bit": False,
        "per_device_train_batch_size": cell.batch,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": cell.recompute,
        "optim": "adamw_torch",
        "max_seq_length": cell.length,
        "max_steps": steps,
        "eval_steps": steps,
        "eval_split": 0.1,
        "hardware.device": device,
        **WAYS[cell.way],
        **mixed,
    }


def prepare(device: str) -> tuple[Home, Path]:
    """Return a home, and the folder of rows; the models of the shapes of a device are made.

    On a GPU nothing is downloaded: the tokenizer is one of single bytes instead of the starter's.
    """
    home = Home(FOLDER / "home")
    home.root.mkdir(parents=True, exist_ok=True)
    if device == "cuda":
        sys.path.insert(0, str(ROOT))
        from tests.gpu.building import byte_tokenizer

        shapes, tokenizer = GPU_SHAPES, FOLDER / "tokenizer"
        byte_tokenizer(tokenizer, 4096)
    else:
        shapes, tokenizer = SHAPES, home.starter_model
        if not tokenizer.exists():
            tokenizer.parent.mkdir(parents=True)
            tokenizer.symlink_to(starter_home() / "models" / "starter")
    for name, shape in shapes.items():
        make(FOLDER / "models" / name, shape, tokenizer, device)
    rows = FOLDER / "rows"
    rows.mkdir(exist_ok=True)
    _write(rows / "long.jsonl", [4000] * 40)
    for length in {cell.length for cell in cells(device) if cell.mixed}:
        draw = random.Random(0)
        lengths = (draw.randint(length * 2 // 3, length) for _ in range(400))
        _write(rows / f"mixed-{length}.jsonl", lengths)
    return home, rows


def _write(path: Path, lengths: Iterable[int]) -> None:
    """Write one row for each length, in words; nearly every word is one token."""
    with path.open("w", encoding="utf-8") as file:
        for number, length in enumerate(lengths):
            words = (WORDS[(number * 7 + each * 3) % len(WORDS)] for each in range(length))
            file.write(json.dumps({"text": " ".join(words)}) + "\n")
