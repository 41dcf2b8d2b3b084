"""The course of a run that learns from preferences, whichever of TRL's trainers does it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, get_peft_model
from transformers import set_seed

from modelforge.config.plan.make import Plan
from modelforge.config.rules.weights import WEIGHT_CHANGING_INITS
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import load_start_adapter, missing_lora_config
from modelforge.modeling.tokenize.dataset import DatasetRequest, Progress, Tokenized
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.template import ChatTemplate
from modelforge.train import loop
from modelforge.train.job import Job, WorkerContext
from modelforge.train.strategies.rewards import DTYPES

Read = Callable[[DatasetRequest, ChatTemplate, Progress], Tokenized]


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


def run(
    context: WorkerContext, read: Read, build: Callable[[Parts], Any], *, compares: bool = True
) -> None:
    """Do the whole of a run: load, turn rows into tokens, train, save.

    `compares` says whether the trainer holds the model against what it was at first.
    """
    job = context.job
    loaded = context.load("causal")
    tokenized = _tokenize(context, loop.chat_template_for(context, loaded), read)
    context.stop.check()
    reference = load_reference(context) if compares else None
    set_seed(job.config.trainer.seed)
    trainer = build(
        Parts(
            job,
            load_start_adapter(loaded.model, job.config, job.plan),
            loaded.tokenizer,
            tokenized.train,
            tokenized.eval,
            reference,
            _hearing(context, tokenized),
        )
    )
    began = time.monotonic()
    course = loop.train(context, trainer, loop.token_counts(tokenized))
    forget(trainer.model)
    loop.close(context, trainer, course, began)


def _tokenize(context: WorkerContext, dialect: ChatTemplate, read: Read) -> Tokenized:
    job = context.job
    config = job.config
    manner = TokenizeOptions.from_plan(config, job.plan)
    order = DatasetRequest(job.dataset, config.eval_split, config.trainer.seed, manner)
    tokenized = read(order, dialect, loop.tokenize_progress(context))
    for code, text in (*dialect.notes, *tokenized.notes):
        context.log.note(code, text)
    if config.lora_dropout > 0 and "lora_dropout" in config.model_fields_set:
        text = (
            f"Answers are compared without dropout, so LoRA dropout {config.lora_dropout:g} is "
            "not used."
        )
        context.log.note("dropout-unused", text)
    return tokenized


def _hearing(context: WorkerContext, tokenized: Tokenized) -> Callable[[], None]:
    """Return what tells how many batches the reference has been asked about."""
    config = context.job.config
    total = -(-len(tokenized.train) // config.per_device_train_batch_size)
    if tokenized.eval is not None:
        total += -(-len(tokenized.eval) // config.per_device_eval_batch_size)
    asked = 0

    def heard() -> None:
        nonlocal asked
        context.stop.check()
        asked += 1
        text = "Asking the reference about every row"
        context.log.phase("tokenizing", text, done=asked, total=total)

    return heard


_NAME = "ref"


class Asking:
    """Tells how far the reference has been asked beforehand, and leaves it when that is wished."""

    def __init__(self, *args: Any, heard: Callable[[], None], **more: Any) -> None:
        self._heard = heard
        super().__init__(*args, **more)

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        """Return what the reference says of a batch; TRL asks this only beforehand."""
        self._heard()
        return super().compute_ref_log_probs(model, inputs)  # type: ignore[misc]


def load_reference(context: WorkerContext) -> Any:
    """Return the model once more where all its weights learn and it has to be kept, else None.

    It is kept in the run's number format, as memory is counted, not in the 32 bits that learn.
    """
    job = context.job
    if job.plan.trains == "adapter" or job.config.trainer.precompute_ref_log_probs:
        return None
    copy = context.load("causal").model.requires_grad_(False).eval()
    return copy.to(DTYPES.get(job.plan.precision, torch.float32))


def adapted(model: Any, config: TrainingConfig, plan: Plan) -> tuple[Any, PeftConfig | None]:
    """Return the model and the adapter for TRL to put on it, so that its reference is the start.

    Usually the reference is the model with the adapter off. An adapter with a near start is put on
    here, and TRL gives the model a second one beside it: with such an adapter off, what it began
    with is missing from the weights below.
    """
    shape = missing_lora_config(model, config, plan)
    if shape is None or config.adapter.init not in WEIGHT_CHANGING_INITS:
        return model, shape
    return get_peft_model(model, shape), None


def remember(trainer: Any) -> Any:
    """Return the trainer with the start of its adapter copied to the one that stays as it is."""
    model = trainer.model
    if _NAME in getattr(model, "peft_config", {}):
        for name, learns in model.named_parameters():
            if ".default." in name:
                stays = model.get_parameter(name.replace(".default.", f".{_NAME}."))
                stays.data.copy_(learns.data)
    return trainer


def forget(model: Any) -> None:
    """Take the copy of the start off the model, so that it is not saved."""
    if _NAME in getattr(model, "peft_config", {}):
        model.delete_adapter(_NAME)
