"""Supervised fine-tuning with TRL's SFTTrainer, of an adapter or of all weights; also QLoRA."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import set_seed

from modelforge.modeling.adapters.lora import load_start_adapter, missing_lora_config
from modelforge.modeling.generate import chat_generation
from modelforge.modeling.perplexity import PerplexityMeter, count_text_bytes
from modelforge.modeling.tokenize.dataset import Tokenized
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.train import loop
from modelforge.train.callbacks.samples import sample_base
from modelforge.train.job import Job, WorkerContext
from modelforge.train.trainer.arguments import make_trainer
from modelforge.train.trainer.chunked_loss import sft_loss_chunk
from modelforge.train.trainer.evaluated import EvaluatedBatches
from modelforge.train.trainer.supervised import (
    SftTrainer,
    extend_collator,
    trained_rows,
    training_arguments,
)

HEAD = "causal"


def run(context: WorkerContext) -> None:
    """Do a whole run: load, tokenize, train, save."""
    job = context.job
    loaded = context.load(HEAD)
    template = loop.chat_template_for(context, loaded.tokenizer, loaded.model.generation_config)
    tokenized = loop.tokenize(context, template)
    context.stop.check()
    sampler = sample_base(context, loaded.model, tokenized.eval_rows, template)
    set_seed(job.config.trainer.seed)
    trainer = build_trainer(job, loaded, tokenized)
    if tokenized.eval is not None:
        size = count_text_bytes(tokenized.eval["labels"], loaded.tokenizer)
        trainer.perplexity = PerplexityMeter(size)
    trainer.evaluated = EvaluatedBatches.of(job, tokenized.eval)
    setup = chat_generation(template, TokenizeOptions.from_plan(job.config, job.plan))
    evaluator = loop.generation_evaluator(context, trainer, tokenized.eval_rows, setup)
    parts = {"evaluated": trainer.evaluated} if trainer.evaluated else {}
    loop.train_and_finish(context, trainer, loop.token_counts(tokenized), evaluator, sampler, parts)


def build_trainer(job: Job, loaded: Any, rows: Tokenized) -> SftTrainer:
    """Return a trainer for tokenized rows; TRL adds the adapter."""
    config, plan = job.config, job.plan
    args = training_arguments(job, evaluates=rows.eval is not None)
    rows = replace(rows, train=trained_rows(rows.train, config, plan))
    model = load_start_adapter(loaded.model, config, plan)
    lora = missing_lora_config(model, config, plan)
    with sft_loss_chunk(plan.loss_piece):
        trainer: SftTrainer = make_trainer(
            SftTrainer, job, loaded, rows, args, model=model, peft_config=lora
        )
    extend_collator(trainer, config)
    return trainer
