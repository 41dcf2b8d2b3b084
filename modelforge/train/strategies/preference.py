"""The course of a run that learns from preferences, whichever of TRL's trainers does it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import set_seed

from modelforge.modeling.adapters.lora import begun
from modelforge.modeling.tokenize.dataset import Order, Progress, Tokenized
from modelforge.modeling.tokenize.options import Manner
from modelforge.modeling.tokenize.template import Dialect
from modelforge.train import loop
from modelforge.train.job import Job, Work
from modelforge.train.strategies import references

Read = Callable[[Order, Dialect, Progress], Tokenized]


@dataclass(frozen=True)
class Parts:
    """What a trainer is made of. `reference` is a second copy of the model, where one is needed.

    `heard` is to be called for every batch that the reference is asked about beforehand.
    """

    job: Job
    model: Any
    tokenizer: Any
    train: Dataset
    held_out: Dataset | None
    reference: Any = None
    heard: Callable[[], None] = lambda: None


def run(work: Work, read: Read, build: Callable[[Parts], Any], *, compares: bool = True) -> None:
    """Do the whole of a run: load, turn rows into tokens, train, save.

    `compares` says whether the trainer holds the model against what it was at first.
    """
    job = work.job
    loaded = work.load("causal")
    tokenized = _tokenize(work, loop.speak(work, loaded), read)
    work.stop.check()
    reference = references.second_copy(work) if compares else None
    set_seed(job.config.trainer.seed)
    trainer = build(
        Parts(
            job,
            begun(loaded.model, job.config, job.plan),
            loaded.tokenizer,
            tokenized.train,
            tokenized.held_out,
            reference,
            _hearing(work, tokenized),
        )
    )
    began = time.monotonic()
    course = loop.train(work, trainer, loop.token_facts(tokenized))
    references.forget(trainer.model)
    loop.close(work, trainer, course, began)


def _tokenize(work: Work, dialect: Dialect, read: Read) -> Tokenized:
    job = work.job
    config = job.config
    manner = Manner.of(config, job.plan)
    order = Order(job.dataset, config.eval_split, config.trainer.seed, manner)
    tokenized = read(order, dialect, loop.tokenizing(work))
    for code, text in (*dialect.notes, *tokenized.notes):
        work.teller.note(code, text)
    if config.lora_dropout > 0 and "lora_dropout" in config.model_fields_set:
        text = (
            f"Answers are compared without dropout, so LoRA dropout {config.lora_dropout:g} is "
            "not used."
        )
        work.teller.note("dropout-unused", text)
    return tokenized


def _hearing(work: Work, tokenized: Tokenized) -> Callable[[], None]:
    """Return what tells how many batches the reference has been asked about."""
    config = work.job.config
    total = -(-len(tokenized.train) // config.per_device_train_batch_size)
    if tokenized.held_out is not None:
        total += -(-len(tokenized.held_out) // config.per_device_eval_batch_size)
    asked = 0

    def heard() -> None:
        nonlocal asked
        work.stop.check()
        asked += 1
        text = "Asking the reference about every row"
        work.teller.phase("tokenizing", text, done=asked, total=total)

    return heard
