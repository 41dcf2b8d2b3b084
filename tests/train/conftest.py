"""A tiny model with the starter's tokenizer, and runs on it in this process."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.checks.summary import summarize
from modelforge.runs.events import EventRecord, read_events
from modelforge.runs.layout import RunFolder

COLOURS = ("red", "blue", "green", "amber", "violet", "teal", "pink", "black")
PAIRS = [
    {"input": f"What does {colour} number {number} mean?", "output": f"{colour} means {number}."}
    for number, colour in enumerate(COLOURS * 2)
]


@pytest.fixture(scope="session")
def tiny_model(starter_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers and random weights that speaks with the starter's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(starter_folder / name, folder / name)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_rewriter(starter_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 of two layers and random weights that reads with the starter's tokenizer."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("tiny-t5")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(starter_folder / name, folder / name)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=49152,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=2,
        eos_token_id=2,
        decoder_start_token_id=0,
        task_specific_params={"summarization": {"prefix": "summarize: "}},
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers and random weights whose tokenizer knows single letters."""
    import string

    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = string.ascii_lowercase + string.digits
    words = [*special, *letters, *(f"##{letter}" for letter in letters), *string.punctuation]
    pieces = BertWordPieceTokenizer({word: number for number, word in enumerate(words)})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces._tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """Write rows as JSON Lines and return the file."""

    def write(rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


class Bench:
    """Makes run folders as the store does, and works on them in this process."""

    def __init__(self, tmp_path: Path, model: Path, rows: Path) -> None:
        self._runs = tmp_path / "runs"
        self.model = model
        self.rows = rows

    def prepare(
        self,
        *,
        model_path: str | None = None,
        dataset: dict[str, Any] | None = None,
        kind: str = "decoder",
        **answers: Any,
    ) -> RunFolder:
        """Return the folder of a short run on the CPU with these answers.

        Without a `dataset` its record is of the first format, of one file.
        """
        settings = {
            "task": "text-generation",
            "model_name": "tiny",
            "dataset": str(self.rows),
            "compute_specs": "low_end",
            "use_4bit": False,
            "gradient_checkpointing": False,
            "gradient_accumulation_steps": 1,
            "per_device_train_batch_size": 2,
            "learning_rate": 0.01,
            "max_steps": 3,
            "eval_split": 0,
            **answers,
            # Generating takes longer than the short training of most tests.
            "evaluation": {"samples": 0, **answers.get("evaluation", {})},
        }
        config = TrainingConfig.from_record(settings)
        first = summarize(self.rows)
        facts = PlanContext("cpu", model_path or str(self.model), context=512, kind=kind)
        plan = make_plan(config, facts)
        run = RunFolder(self._runs / f"20260101-000000-{len(list(self._runs.glob('*'))):04x}")
        run.path.mkdir(parents=True)
        record = {
            "format": 1,
            "id": run.id,
            "name": "a try",
            "created": 0,
            "request_id": None,
            "config": config.explicit_values(),
            "origins": {},
            "plan": plan.as_dict(),
            "dataset": dataset
            or {
                "path": str(self.rows),
                "sha256": first.sha256,
                "rows": first.rows,
                "mapping": first.mapping.as_dict(),
            },
        }
        run.config.write_text(json.dumps(record), encoding="utf-8")
        return run

    def work(self, run: RunFolder) -> list[EventRecord]:
        """Work on the run to its end and return what it said."""
        from modelforge.train.worker import run_worker

        run_worker(run.path)
        return read_events(run.events)[0]


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Path, write_rows: Any) -> Iterator[Bench]:
    """Runs on sixteen rows; what the worker does to its process is undone afterwards."""
    environment = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    levels = {name: logging.getLogger(name).level for name in ("transformers", "trl", "torch")}
    yield Bench(tmp_path, tiny_model, write_rows(PAIRS))
    os.environ.clear()
    os.environ.update(environment)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def at(monkeypatch):
    """Do something when the loop of a training has come to an update."""

    def arrange(hook: str, step: int, act: Any, stage: int | None = None) -> None:
        from modelforge.train.callbacks.reporter import EventReporter

        true = getattr(EventReporter, hook)

        def hooked(self, args, state, control, **more):
            here = stage is None or self._stage == stage
            if state.global_step == step and here:
                monkeypatch.setattr(EventReporter, hook, true)
                act()
            return true(self, args, state, control, **more)

        monkeypatch.setattr(EventReporter, hook, hooked)

    return arrange
