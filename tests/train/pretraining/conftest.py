"""Runs from nothing on a little text."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelforge.data.checks.summary import summarize

SENTENCE = (
    "the lamp keeper counts ships at night and writes their names into a long book while wind "
    "and rain beat on the old tower window where his daughter reads aloud about far islands"
)
SETTINGS: dict[str, Any] = {
    "model_name": "",
    "pretraining": {
        "enabled": True,
        "depth": 2,
        "aspect_ratio": 16,
        "head_dim": 16,
        "vocab_size": 300,
        "total_batch_tokens": 256,
    },
    "max_seq_length": 32,
    "max_steps": 8,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "eval_split": 0.1,
    "eval_steps": 3,
    "gradient_checkpointing": False,
    "optim": "normuon",
    "optimizer": {
        "muon_scale": "original",
        # The plan multiplies rates by sqrt(256 / 2**19), and some by the root of 768 / 32.
        "matrix_lr": 0.9,
        "embedding_lr": 0.5,
        "unembedding_lr": 0.04,
        "scalar_lr": 0.9,
    },
    "weight_decay": 0.01,
    "max_grad_norm": 0.0,
    "adapter": {"enabled": False},
}


def prose(sentences: int, seed: int = 1) -> str:
    """Return lines of words, each with a full stop."""
    draw, words = random.Random(seed), SENTENCE.split()
    lines = [" ".join(draw.choices(words, k=draw.randint(4, 12))) for _ in range(sentences)]
    return "".join(f"{line.capitalize()}.\n" for line in lines)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A text of 500 sentences."""
    path = tmp_path / "book.txt"
    path.write_text(prose(500), encoding="utf-8")
    return path


@pytest.fixture
def from_nothing(bench: Any, book: Path) -> Callable[..., Any]:
    """Return the folder of a run from nothing on the book, with these settings."""

    def prepare(text: Path = book, **settings: Any) -> Any:
        summary = summarize(text)
        entry = {
            "files": [str(text)],
            "sha256": summary.sha256,
            "rows": summary.rows,
            "mapping": summary.mapping.as_dict(),
        }
        group = {**SETTINGS["pretraining"], **settings.pop("pretraining", {})}
        return bench.prepare(
            model_path="d2",
            dataset={"sources": [entry], "validation": []},
            **{**SETTINGS, **settings, "pretraining": group},
        )

    return prepare
