"""Turning one text into another by an encoder-decoder: document in, summary out."""

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
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.counters import TokenizeCounts
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.seq2seq import encode_seq2seq
from modelforge.modeling.tokenize.template import ChatTemplate, seq2seq_template, stop_ids_of
from modelforge.train import generate, loop
from modelforge.train.generate import seq2seq_generation
from modelforge.train.job import WorkerContext
from modelforge.train.trainer.arguments import shared
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin

HEAD: Head = "seq2seq"
_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema({"input_ids": _TOKENS, "labels": _TOKENS})


class Trainer(OomRecoveryMixin, CheckpointMixin, Seq2SeqTrainer):
    """The library's trainer as this house has it save and add up."""

    by_tokens = True
    shifts_labels = False

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # T5 and BART take the number of tokens of an update and return a mean over the batch all
        # the same, so that it would be added up instead of averaged over the update.
        self.model_accepts_loss_kwargs = False


def run(context: WorkerContext) -> None:
    """Do the whole of a run: load, turn rows into tokens, train, save."""
    loaded = context.load(HEAD)
    config, plan = context.job.config, context.job.plan
    stops = stop_ids_of(loaded.model.generation_config)
    dialect = seq2seq_template(loaded.tokenizer, stops, summarization_prefix(loaded.model.config))
    manner = TokenizeOptions.from_plan(config, plan)
    tokenized = tokenize(context, dialect, manner)
    context.stop.check()
    set_seed(config.trainer.seed)
    trainer = build(
        loaded, tokenized, config=config, plan=plan, checkpoints=context.job.run.checkpoints
    )
    score = generate.make_evaluator(
        context, trainer, tokenized.eval_rows, seq2seq_generation(dialect, manner)
    )
    loop.learn(context, trainer, loop.token_counts(tokenized), score)


def tokenize(
    context: WorkerContext, dialect: ChatTemplate, manner: TokenizeOptions
) -> dataset.Tokenized:
    """Return documents and summaries as tokens."""
    config = context.job.config
    seed = config.trainer.seed
    order = dataset.DatasetRequest(context.job.dataset, config.eval_split, seed, manner)
    packers = dataset.TableBuilder(_SCHEMA), dataset.TableBuilder(_SCHEMA)
    counts = TokenizeCounts(), TokenizeCounts()
    kept = dataset.ReservoirSample(config.evaluation.generated_rows, seed)
    for row, is_held_out in dataset.iter_split_rows(order, loop.tokenize_progress(context)):
        count = counts[is_held_out]
        found = encode_seq2seq(row, dialect, manner)
        count.rows += 1
        if found is None:
            count.dropped += 1
            continue
        count.truncated += found.is_truncated
        count.trained_tokens += len(found.target_ids)
        count.all_tokens += len(found.input_ids)
        packers[is_held_out].add({"input_ids": found.source_ids, "labels": found.target_ids})
        if is_held_out:
            kept.add(row)
    if not counts[0].trained_tokens:
        raise WorkerError("nothing-to-learn", _nothing(counts[0]))
    both = counts[0] + counts[1]
    notes = list(_notes(both, manner))
    checked = packers[1].dataset() if counts[1].trained_tokens else None
    if counts[1].rows and checked is None:
        notes.append(dataset.NO_EVALUATION)
    for code, text in notes:
        context.log.note(code, text)
    return dataset.Tokenized(
        packers[0].dataset(),
        checked,
        trained_tokens=counts[0].trained_tokens,
        all_tokens=counts[0].all_tokens,
        truncated_rows=both.truncated,
        dropped_rows=both.dropped,
        notes=notes,
        eval_rows=kept.rows,
    )


def build(
    loaded: Any,
    tokenized: dataset.Tokenized,
    *,
    config: TrainingConfig,
    plan: Plan,
    checkpoints: Path,
) -> Trainer:
    """Return a trainer with the adapter on the model."""
    made: Trainer = prepare_trainer(
        Trainer(
            model=add_adapter(load_start_adapter(loaded.model, config, plan), config, plan, HEAD),
            args=arguments(config, plan, checkpoints, evaluates=tokenized.eval is not None),
            train_dataset=tokenized.train,
            eval_dataset=tokenized.eval,
            processing_class=loaded.tokenizer,
            data_collator=DataCollatorForSeq2Seq(loaded.tokenizer, model=loaded.model),
        ),
        config,
        plan,
    )
    return made


def arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> Seq2SeqTrainingArguments:
    """Return the settings as the library takes them."""
    return Seq2SeqTrainingArguments(
        **shared(config, plan, checkpoints, evaluates=evaluates),
        train_sampling_strategy="group_by_length" if plan.group_by_length else "random",
        include_num_input_tokens_seen="non_padding",
        prediction_loss_only=True,
    )


def _notes(counts: TokenizeCounts, manner: TokenizeOptions) -> list[tuple[str, str]]:
    notes = []
    if counts.truncated:
        what = f"{counts.truncated:,} longer than {manner.max_length:,} tokens and cut there."
        notes.append(("rows-cut", f"Documents or summaries {what}"))
    if counts.dropped:
        what = f"Rows left out, too long or without a document and a summary: {counts.dropped:,}."
        notes.append(("rows-dropped", what))
    return notes


def _nothing(counts: TokenizeCounts) -> Problem:
    return Problem(
        "dataset",
        f"None of the {counts.rows:,} training rows has a document and a summary to learn.",
        "Give rows with both, and keep long ones (data.truncation_strategy: right).",
    )
