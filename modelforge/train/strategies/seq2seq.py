"""Sequence-to-sequence training of an encoder-decoder: from a document to a summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import (
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.convert import summarization_prefix
from modelforge.errors import Problem
from modelforge.modeling.adapters.lora import add_adapter, load_start_adapter, prepare_trainer
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.generate import seq2seq_generation
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.counters import TokenizeCounts
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.seq2seq import Seq2SeqExample, encode_seq2seq
from modelforge.modeling.tokenize.template import ChatTemplate, seq2seq_template, stop_ids_of
from modelforge.train import loop
from modelforge.train.job import WorkerContext
from modelforge.train.trainer.arguments import common_arguments
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
    config, plan = context.job.config, context.job.plan
    stop_ids = stop_ids_of(loaded.model.generation_config)
    template = seq2seq_template(
        loaded.tokenizer, stop_ids, summarization_prefix(loaded.model.config)
    )
    options = TokenizeOptions.from_plan(config, plan)
    tokenized = tokenize(context, template, options)
    context.stop.check()
    set_seed(config.trainer.seed)
    trainer = build_trainer(
        loaded, tokenized, config=config, plan=plan, checkpoints=context.job.run.checkpoints
    )
    setup = seq2seq_generation(template, options)
    evaluator = loop.generation_evaluator(context, trainer, tokenized.eval_rows, setup)
    loop.train_and_finish(context, trainer, loop.token_counts(tokenized), evaluator)


def tokenize(
    context: WorkerContext, template: ChatTemplate, options: TokenizeOptions
) -> dataset.Tokenized:
    """Return documents and summaries as token ids."""
    config = context.job.config
    seed = config.trainer.seed
    request = dataset.DatasetRequest(context.job.dataset, config.eval_split, seed, options)
    tables = dataset.TableBuilder(_SCHEMA), dataset.TableBuilder(_SCHEMA)
    counts = TokenizeCounts(), TokenizeCounts()
    eval_rows = dataset.ReservoirSample(config.evaluation.generated_rows, seed)
    for row, is_eval in dataset.iter_split_rows(request, loop.tokenize_progress(context)):
        count = counts[is_eval]
        example = encode_seq2seq(row, template, options)
        count.rows += 1
        if example is None:
            count.dropped += 1
            continue
        _count(example, count)
        tables[is_eval].add({"input_ids": example.source_ids, "labels": example.target_ids})
        if is_eval:
            eval_rows.add(row)
    if not counts[0].trained_tokens:
        raise WorkerError("nothing-to-learn", _nothing_to_learn(counts[0]))
    total = counts[0] + counts[1]
    eval_dataset = tables[1].dataset() if counts[1].trained_tokens else None
    notes = _notes(total, options)
    if counts[1].rows and eval_dataset is None:
        notes.append(dataset.NO_EVALUATION)
    for code, text in notes:
        context.log.note(code, text)
    return dataset.Tokenized(
        tables[0].dataset(),
        eval_dataset,
        trained_tokens=counts[0].trained_tokens,
        all_tokens=counts[0].all_tokens,
        truncated_rows=total.truncated,
        dropped_rows=total.dropped,
        notes=notes,
        eval_rows=eval_rows.rows,
    )


def _count(example: Seq2SeqExample, count: TokenizeCounts) -> None:
    count.truncated += example.is_truncated
    count.trained_tokens += len(example.target_ids)
    count.all_tokens += len(example.input_ids)


def build_trainer(
    loaded: Any,
    tokenized: dataset.Tokenized,
    *,
    config: TrainingConfig,
    plan: Plan,
    checkpoints: Path,
) -> SummarizationTrainer:
    """Return a trainer with the adapter on the model."""
    evaluates = tokenized.eval is not None
    model = load_start_adapter(loaded.model, config, plan)
    trainer = SummarizationTrainer(
        model=add_adapter(model, config, plan, HEAD),
        args=training_arguments(config, plan, checkpoints, evaluates=evaluates),
        train_dataset=tokenized.train,
        eval_dataset=tokenized.eval,
        processing_class=loaded.tokenizer,
        data_collator=DataCollatorForSeq2Seq(loaded.tokenizer, model=loaded.model),
    )
    prepared: SummarizationTrainer = prepare_trainer(trainer, config, plan)
    return prepared


def training_arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> Seq2SeqTrainingArguments:
    """Return the arguments of Transformers' trainer."""
    return Seq2SeqTrainingArguments(
        **common_arguments(config, plan, checkpoints, evaluates=evaluates),
        train_sampling_strategy="group_by_length" if plan.group_by_length else "random",
        include_num_input_tokens_seen="non_padding",
        prediction_loss_only=True,
    )


def _notes(counts: TokenizeCounts, options: TokenizeOptions) -> list[tuple[str, str]]:
    notes = []
    if counts.truncated:
        text = (
            f"{counts.truncated:,} documents or summaries are longer than "
            f"{options.max_length:,} tokens and truncated."
        )
        notes.append(("rows-cut", text))
    if counts.dropped:
        text = f"{counts.dropped:,} rows are skipped: too long, or without document and summary."
        notes.append(("rows-dropped", text))
    return notes


def _nothing_to_learn(counts: TokenizeCounts) -> Problem:
    return Problem(
        "dataset",
        f"None of the {counts.rows:,} training rows has a document and a summary.",
        "Give rows with both, and keep long ones (data.truncation_strategy: right).",
    )
