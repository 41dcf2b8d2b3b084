"""The run that DPO, KTO and ORPO share, and the reference model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from transformers import set_seed

from modelforge.config.rules.weights import WEIGHT_CHANGING_INITS
from modelforge.modeling.adapters.lora import load_start_adapter, missing_lora_config
from modelforge.modeling.tokenize.dataset import DatasetRequest, Progress, Tokenized
from modelforge.modeling.tokenize.template import ChatTemplate
from modelforge.train import loop
from modelforge.train.callbacks.samples import sample_base
from modelforge.train.finish import finish
from modelforge.train.job import Job, WorkerContext
from modelforge.train.strategies.rewards import DTYPES
from modelforge.train.trainer.arguments import make_trainer
from modelforge.train.trainer.private import TrainerHost

Tokenize = Callable[[DatasetRequest, ChatTemplate, Progress], Tokenized]
REFERENCE_ADAPTER = "ref"


@dataclass(frozen=True)
class Reference:
    """A frozen second copy of the model, where one is needed.

    `on_batch` is called before each batch whose reference log-probabilities are precomputed.
    """

    model: Any = None
    on_batch: Callable[[], None] = lambda: None


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
    build_trainer: Callable[[Job, Any, Tokenized, Reference], Any],
    *,
    needs_reference: bool = True,
) -> None:
    """Do a whole run: load, tokenize, train, save."""
    job, config = context.job, context.job.config
    loaded = context.load("causal")
    template = loop.chat_template_for(context, loaded.tokenizer, loaded.model.generation_config)
    tokenized = loop.tokenize(context, template, tokenize)
    context.stop.check()
    sampler = sample_base(context, loaded.model, tokenized.eval_rows, template)
    model = load_reference(context) if needs_reference else None
    set_seed(config.trainer.seed)
    reference = Reference(model, _reference_progress(context, tokenized))
    trainer = build_trainer(job, loaded, tokenized, reference)
    began = time.monotonic()
    progress = loop.train(context, trainer, loop.token_counts(tokenized), sampler=sampler)
    if REFERENCE_ADAPTER in getattr(trainer.model, "peft_config", {}):
        trainer.model.delete_adapter(REFERENCE_ADAPTER)  # otherwise it would be saved
    finish(context, trainer, progress, began)


def load_reference(context: WorkerContext) -> Any:
    """Return a frozen second copy of the model, or None where none is needed.

    One is needed when all weights are trained. It has the precision of the run, not float32.
    """
    job = context.job
    if job.plan.trains == "adapter" or job.config.trainer.precompute_ref_log_probs:
        return None
    reference = context.load("causal").model.requires_grad_(False).eval()
    return reference.to(DTYPES.get(job.plan.precision, torch.float32))


def make_trainer_with_reference(
    kind: Any,
    job: Job,
    loaded: Any,
    rows: Tokenized,
    args: Any,
    reference: Reference,
    collator: Any,
) -> Any:
    """Return a trainer of the class `kind` whose reference is the model it starts from.

    Usually the reference is the model with the adapter disabled. LoftQ, PiSSA and OLoRA change the
    weights below, so with them the adapter is added here and TRL adds a second one as reference.
    """
    config, plan = job.config, job.plan
    model = load_start_adapter(loaded.model, config, plan)
    lora = missing_lora_config(model, config, plan)
    if lora is not None and config.adapter.init in WEIGHT_CHANGING_INITS:
        model, lora = get_peft_model(model, lora), None
    trainer = make_trainer(
        kind,
        job,
        loaded,
        rows,
        args,
        model=model,
        ref_model=reference.model,
        on_reference_batch=reference.on_batch,
        data_collator=collator,
        peft_config=lora,
    )
    if REFERENCE_ADAPTER in getattr(trainer.model, "peft_config", {}):
        for name, trained in trainer.model.named_parameters():
            if ".default." in name:
                other = name.replace(".default.", f".{REFERENCE_ADAPTER}.")
                trainer.model.get_parameter(other).data.copy_(trained.data)
    return trainer


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
