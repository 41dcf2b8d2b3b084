"""Sequence-to-sequence training of an encoder-decoder: from a document to a summary."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from transformers import (
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)

from modelforge.config.methods import Head
from modelforge.data.canonical.convert import summarization_prefix
from modelforge.errors import Problem
from modelforge.modeling.adapters.lora import add_adapter, load_start_adapter
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.generate import seq2seq_generation
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.seq2seq import encode_seq2seq
from modelforge.modeling.tokenize.template import ChatTemplate, seq2seq_template, stop_ids_of
from modelforge.train import loop
from modelforge.train.callbacks.samples import sample_base
from modelforge.train.job import Job, WorkerContext
from modelforge.train.trainer.arguments import common_arguments, make_trainer
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin

HEAD: Head = "seq2seq"
_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema({"input_ids": _TOKENS, "labels": _TOKENS})


class SummarizationTrainer(OomRecoveryMixin, CheckpointMixin, Seq2SeqTrainer):
    """Transformers' Seq2SeqTrainer with checkpoints and OOM recovery."""

    by_tokens = True
    shifts_labels = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # T5 and BART accept the number of tokens of a step but return a mean over the batch, so
        # that the trainer would add up what it should average.
        self.model_accepts_loss_kwargs = False


def run(context: WorkerContext) -> None:
    """Do a whole run: load, tokenize, train, save."""
    loaded = context.load(HEAD)
    job = context.job
    stop_ids = stop_ids_of(loaded.model.generation_config)
    template = seq2seq_template(
        loaded.tokenizer, stop_ids, summarization_prefix(loaded.model.config)
    )
    options = TokenizeOptions.from_plan(job.config, job.plan)
    tokenized = tokenize(context, template, options)
    context.stop.check()
    sampler = sample_base(context, loaded.model, tokenized.eval_rows, template)
    set_seed(job.config.trainer.seed)
    trainer = build_trainer(job, loaded, tokenized)
    setup = seq2seq_generation(template, options)
    evaluator = loop.generation_evaluator(context, trainer, tokenized.eval_rows, setup)
    loop.train_and_finish(context, trainer, loop.token_counts(tokenized), evaluator, sampler)


def tokenize(
    context: WorkerContext, template: ChatTemplate, options: TokenizeOptions
) -> dataset.Tokenized:
    """Return documents and summaries as token ids."""
    config, log = context.job.config, context.log
    tables = dataset.TableBuilder(_SCHEMA), dataset.TableBuilder(_SCHEMA)
    keep = max(loop.scored_rows(config), config.evaluation.samples)
    eval_rows = dataset.ReservoirSample(keep, config.trainer.seed)
    counts, tokenized = [0, 0], dataset.Tokenized(None, None)
    for row, is_eval in loop.iter_split_rows(context):
        example = encode_seq2seq(row, template, options)
        counts[is_eval] += 1
        if example is None:
            tokenized.dropped_rows += 1
            continue
        tokenized.truncated_rows += example.is_truncated
        tables[is_eval].add({"input_ids": example.source_ids, "labels": example.target_ids})
        if is_eval:
            eval_rows.add(row)
        else:
            tokenized.trained_tokens += len(example.target_ids)
            tokenized.all_tokens += len(example.input_ids)
    tokenized.train, evaluation = tables[0].dataset(), tables[1].dataset()
    tokenized.eval = evaluation if len(evaluation) else None
    if not len(tokenized.train):
        what = f"None of the {counts[0]:,} training rows has a document and a summary."
        remedy = "Give rows with both, and keep long ones (data.truncation_strategy: right)."
        raise WorkerError("nothing-to-learn", Problem("dataset", what, remedy))
    tokenized.eval_rows = eval_rows.rows
    if tokenized.truncated_rows:
        text = f"are longer than {options.max_length:,} tokens and truncated."
        log.note("rows-cut", f"{tokenized.truncated_rows:,} documents or summaries {text}")
    if tokenized.dropped_rows:
        text = "rows are skipped: too long, or without document and summary."
        log.note("rows-dropped", f"{tokenized.dropped_rows:,} {text}")
    if counts[1] and tokenized.eval is None:
        log.note(*dataset.NO_EVALUATION)
    return tokenized


def build_trainer(job: Job, loaded: Any, rows: dataset.Tokenized) -> SummarizationTrainer:
    """Return a trainer with the adapter on the model."""
    config, plan = job.config, job.plan
    args = Seq2SeqTrainingArguments(
        **common_arguments(job, evaluates=rows.eval is not None),
        include_num_input_tokens_seen="non_padding",
        prediction_loss_only=True,
    )
    model = add_adapter(load_start_adapter(loaded.model, config, plan), config, plan, HEAD)
    collator = DataCollatorForSeq2Seq(loaded.tokenizer, model=loaded.model)
    return make_trainer(
        SummarizationTrainer, job, loaded, rows, args, model=model, data_collator=collator
    )
