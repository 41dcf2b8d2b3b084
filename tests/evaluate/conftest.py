"""Small models that learn, runs of the real worker on them, and evaluations in this process."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelforge.runs.atomic_files import write_json
from modelforge.runs.evaluations import EvaluationFolder, EvaluationRecord, EvaluationRequest
from modelforge.runs.layout import RunFolder
from tests.train.conftest import Bench

SOUNDS = {
    "cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa", "owl": "hoot",
    "bee": "buzz", "horse": "neigh",
}  # fmt: skip
WAYS = ("loudly", "at night", "in spring", "when happy", "on Monday", "at noon", "in rain", "today")
LEARNING = {
    "learning_rate": 3e-3,
    "max_steps": 150,
    "per_device_train_batch_size": 13,
    "eval_split": 0.4,
    "eval_steps": 150,
    "max_seq_length": 96,
}
WHOLE = {"adapter": {"enabled": False}}


def animal_rows(*, shuffled: bool = False) -> list[dict[str, Any]]:
    """Return 64 questions whose answers follow from one word, or are exchanged at random."""
    pairs = [(animal, way) for animal in SOUNDS for way in WAYS]
    answers = [f"It says {SOUNDS[animal]}." for animal, _way in pairs]
    if shuffled:
        random.Random(5).shuffle(answers)
    return [
        {"input": f"What does the {animal} say {way}?", "output": answer}
        for (animal, way), answer in zip(pairs, answers, strict=True)
    ]


@pytest.fixture(scope="session")
def learner(starter_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights, large enough to learn the rows."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from tests.export.cases import small_tokenizer

    folder = tmp_path_factory.mktemp("learner")
    tokenizer = small_tokenizer(AutoTokenizer.from_pretrained(starter_folder))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunFolder]:
    """Train runs with the real worker; what it does to its process is undone afterwards."""
    environment = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    levels = {name: logging.getLogger(name).level for name in ("transformers", "trl", "torch")}

    def train(base: Path, rows: list[dict[str, Any]], **settings: Any) -> RunFolder:
        root = tmp_path_factory.mktemp("home")
        data = root / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        bench = Bench(root, base, data)
        run = bench.prepare(**{**LEARNING, **settings})
        events = bench.work(run)
        assert events[-1].kind == "finished", run.events.read_text()[-2000:]
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        return run

    return train


@pytest.fixture(scope="session")
def speaker(trained: Any, learner: Path) -> RunFolder:
    """A run of which every weight was trained, on exchanged answers: it learns how they look."""
    return trained(learner, animal_rows(shuffled=True), **WHOLE)


@pytest.fixture(scope="session")
def animals(trained: Any, speaker: RunFolder) -> RunFolder:
    """A run with an adapter that learns what the animals say."""
    return trained(speaker.output, animal_rows())


def prepare(run: RunFolder, base: Path | None, number: int = 0, **request: Any) -> EvaluationFolder:
    """Return the folder of an evaluation as the service leaves it."""
    home = run.path.parents[1]
    folder = EvaluationFolder(home / "evaluations" / f"20260102-000000-{number:04x}")
    folder.path.mkdir(parents=True)
    facts = {
        "run_folder": str(run.path),
        "base_path": str(base) if base else None,
        "base_name": "tiny",
        "adapter_path": str(run.output) if run.has_adapter else None,
        "device": "cpu",
        "gpu_index": None,
        "earlier": [],
        "notes": [],
    }
    asked = EvaluationRequest(run.id, **request)
    record = EvaluationRecord(asked, "a try", time.time(), facts=facts)
    write_json(folder.record_file, record.as_dict())
    return folder


def evaluate(run: RunFolder, base: Path | None, number: int = 0, **request: Any) -> dict[str, Any]:
    """Evaluate a run in this process and return its report."""
    from modelforge.evaluate.run import run_evaluation

    folder = prepare(run, base, number, **request)
    assert run_evaluation(folder) == 0, folder.result()
    report = folder.read_report()
    assert report is not None
    return report
