"""The run that DPO, KTO and ORPO share, and the reference model."""

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
from modelforge.train.trainer.host import TrainerHost

Tokenize = Callable[[DatasetRequest, ChatTemplate, Progress], Tokenized]
REFERENCE_ADAPTER = "ref"


@dataclass(frozen=True)
class TrainerInputs:
    """What a preference trainer is built from.

    `reference` is a second copy of the model, where one is needed. `on_reference_batch` is called
    before each batch whose reference log-probabilities are precomputed.
    """

    job: Job
    model: Any
    tokenizer: Any
    train: Dataset
    eval: Dataset | None
    reference: Any = None
    on_reference_batch: Callable[[], None] = lambda: None


class ReferenceProgressMixin(TrainerHost):
    """Reports the progress of precomputing reference log-probabilities, and lets it be stopped."""

    def __init__(self, *args: Any, on_reference_batch: Callable[[], None], **kwargs: Any) -> None:
        self._on_reference_batch = on_reference_batch
        super().__init__(*args, **kwargs)

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        """Return the reference log-probabilities of a batch; TRL calls this to precompute only."""
        self._on_reference_batch()
        return super().compute_ref_log_probs(model, inputs)


def run(
    context: WorkerContext,
    tokenize: Tokenize,
    build_trainer: Callable[[TrainerInputs], Any],
    *,
    needs_reference: bool = True,
) -> None:
    """Do a whole run: load, tokenize, train, save."""
    job = context.job
    loaded = context.load("causal")
    tokenized = _tokenize(context, loop.chat_template_for(context, loaded), tokenize)
    context.stop.check()
    reference = load_reference(context) if needs_reference else None
    set_seed(job.config.trainer.seed)
    trainer = build_trainer(
        TrainerInputs(
            job,
            load_start_adapter(loaded.model, job.config, job.plan),
            loaded.tokenizer,
            tokenized.train,
            tokenized.eval,
            reference,
            _reference_progress(context, tokenized),
        )
    )
    began = time.monotonic()
    progress = loop.train(context, trainer, loop.token_counts(tokenized))
    delete_reference_adapter(trainer.model)
    loop.finish(context, trainer, progress, began)


def load_reference(context: WorkerContext) -> Any:
    """Return a frozen second copy of the model, or None where none is needed.

    One is needed when all weights are trained. It has the precision of the run, not float32.
    """
    job = context.job
    if job.plan.trains == "adapter" or job.config.trainer.precompute_ref_log_probs:
        return None
    reference = context.load("causal").model.requires_grad_(False).eval()
    return reference.to(DTYPES.get(job.plan.precision, torch.float32))


def with_reference_adapter(
    model: Any, config: TrainingConfig, plan: Plan
) -> tuple[Any, PeftConfig | None]:
    """Return the model, and the adapter config for TRL so that its reference is the start model.

    Usually the reference is the model with the adapter disabled. LoftQ, PiSSA and OLoRA change the
    weights below, so with them the adapter is added here and TRL adds a second one as reference.
    """
    lora = missing_lora_config(model, config, plan)
    if lora is None or config.adapter.init not in WEIGHT_CHANGING_INITS:
        return model, lora
    return get_peft_model(model, lora), None


def copy_reference_adapter(trainer: Any) -> Any:
    """Copy the initial adapter to the reference adapter, if there is one; return the trainer."""
    model = trainer.model
    if REFERENCE_ADAPTER in getattr(model, "peft_config", {}):
        for name, trained in model.named_parameters():
            if ".default." in name:
                other = model.get_parameter(name.replace(".default.", f".{REFERENCE_ADAPTER}."))
                other.data.copy_(trained.data)
    return trainer


def delete_reference_adapter(model: Any) -> None:
    """Delete the reference adapter, so that it is not saved."""
    if REFERENCE_ADAPTER in getattr(model, "peft_config", {}):
        model.delete_adapter(REFERENCE_ADAPTER)


def _tokenize(context: WorkerContext, template: ChatTemplate, tokenize: Tokenize) -> Tokenized:
    job, config = context.job, context.job.config
    options = TokenizeOptions.from_plan(config, job.plan)
    request = DatasetRequest(job.dataset, config.eval_split, config.trainer.seed, options)
    tokenized = tokenize(request, template, loop.tokenize_progress(context))
    for code, text in (*template.notes, *tokenized.notes):
        context.log.note(code, text)
    if config.lora_dropout > 0 and "lora_dropout" in config.model_fields_set:
        text = (
            f"Preference methods compare log-probabilities without dropout, so LoRA dropout "
            f"{config.lora_dropout:g} is not used."
        )
        context.log.note("dropout-unused", text)
    return tokenized


def _reference_progress(context: WorkerContext, tokenized: Tokenized) -> Callable[[], None]:
    config = context.job.config
    total = -(-len(tokenized.train) // config.per_device_train_batch_size)
    if tokenized.eval is not None:
        total += -(-len(tokenized.eval) // config.per_device_eval_batch_size)
    done = 0

    def report() -> None:
        nonlocal done
        context.stop.check()
        done += 1
        text = "Computing reference log-probabilities"
        context.log.phase("tokenizing", text, done=done, total=total)

    return report
