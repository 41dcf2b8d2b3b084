"""Extractive question answering: an encoder predicts the first and last token of the answer."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import pyarrow as pa
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainingArguments, set_seed

from modelforge.config.methods import Head
from modelforge.data.canonical.convert import Canonical
from modelforge.data.canonical.qa_windows import Window, best_answer
from modelforge.errors import Problem
from modelforge.modeling.adapters.lora import add_adapter, load_start_adapter
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.qa import QAExample, encode_qa
from modelforge.runs.event_types import ScoresEvent
from modelforge.train import loop
from modelforge.train.job import Job, WorkerContext
from modelforge.train.trainer.arguments import common_arguments, make_trainer
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin
from modelforge.train.trainer.private import OrderedEvalMixin

# A row, and the windows that its context was cut into.
EvalQuestion = tuple[Canonical, list[Window]]
HEAD: Head = "span"
POSITIONS = ["start_positions", "end_positions"]
_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    [("input_ids", _TOKENS), ("token_type_ids", _TOKENS)]
    + [(name, pa.int32()) for name in POSITIONS]
)


def collate_windows(windows: list[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    """Return windows padded on the right to (batch, seq) int64; positions have shape (batch,)."""
    ids = [torch.tensor(window["input_ids"]) for window in windows]
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
    }
    if windows[0].get("token_type_ids"):
        types = [torch.tensor(window["token_type_ids"]) for window in windows]
        batch["token_type_ids"] = pad_sequence(types, batch_first=True)
    for name in POSITIONS:
        batch[name] = torch.tensor([window[name] for window in windows])
    return batch


def qa_scores(questions: list[EvalQuestion], prediction: Any) -> dict[str, float]:
    """Return exact match and F1; a question without a window counts as answered wrongly.

    `prediction.predictions` are start and end logits of shape (windows, seq), in order.
    """
    starts, ends = prediction.predictions[:2]
    answers, first = [], 0
    for row, windows in questions:
        part = slice(first, first + len(windows))
        answers.append(best_answer(row["context"], windows, starts[part], ends[part]).text)
        first += len(windows)
    references = [[answer["text"] for answer in row["answers"]] for row, _windows in questions]
    return import_module("modelforge.modeling.text_metrics").squad_scores(answers, references)


class QaTrainer(OomRecoveryMixin, CheckpointMixin, OrderedEvalMixin, transformers.Trainer):
    """Transformers' Trainer; evaluation windows stay in order so that scores can group them."""


def run(context: WorkerContext) -> None:
    """Do a whole run: load, cut the contexts into windows, train, save."""
    seed = context.job.config.trainer.seed
    # The head is initialized at random, so the seed has to be set before it is made.
    set_seed(seed)
    loaded = context.load(HEAD)
    tokenized, questions = tokenize(context, loaded.tokenizer)
    context.stop.check()
    set_seed(seed)
    trainer = build_trainer(context.job, loaded, tokenized, questions)
    facts = loop.token_counts(tokenized) | {"eval_rows": len(questions)}
    score = partial(_report_scores, context, trainer, len(questions))
    loop.train_and_finish(context, trainer, facts, score)


def tokenize(
    context: WorkerContext, tokenizer: Any
) -> tuple[dataset.Tokenized, list[EvalQuestion]]:
    """Return the windows to train and evaluate on, and the evaluation questions."""
    max_length, log = context.job.plan.max_length, context.log
    tables = dataset.TableBuilder(_SCHEMA), dataset.TableBuilder(_SCHEMA)
    questions: list[EvalQuestion] = []
    tokenized = dataset.Tokenized(None, None)
    for row, is_eval in loop.iter_split_rows(context):
        examples = encode_qa(row, tokenizer, max_length) if "context" in row else []
        tokenized.dropped_rows += not examples
        if is_eval and "context" in row:
            questions.append((row, [example.window for example in examples]))
        for example in examples:
            tables[is_eval].add(_columns(example))
            if not is_eval:
                tokenized.trained_tokens += example.trained_tokens
                tokenized.all_tokens += len(example.input_ids)
    tokenized.train, evaluation = tables[0].dataset(), tables[1].dataset()
    tokenized.eval = evaluation if len(evaluation) else None
    if not len(tokenized.train):
        what = f"No question leaves tokens for its context within {max_length:,}."
        remedy = "Raise the max sequence length (max_seq_length), or shorten the questions."
        raise WorkerError("nothing-to-learn", Problem("dataset", what, remedy))
    if tokenized.dropped_rows:
        text = "questions are skipped: too long to leave tokens for their context."
        log.note("rows-dropped", f"{tokenized.dropped_rows:,} {text}")
    if questions and tokenized.eval is None:
        log.note(*dataset.NO_EVALUATION)
    return tokenized, questions


def build_trainer(
    job: Job, loaded: Any, rows: dataset.Tokenized, questions: list[EvalQuestion]
) -> QaTrainer:
    """Return a trainer with the adapter on the model, which answers the questions to evaluate."""
    args = TrainingArguments(
        **common_arguments(job, evaluates=rows.eval is not None),
        include_num_input_tokens_seen="non_padding",
        label_names=POSITIONS,
    )
    model = load_start_adapter(loaded.model, job.config, job.plan)
    return make_trainer(
        QaTrainer,
        job,
        loaded,
        rows,
        args,
        model=add_adapter(model, job.config, job.plan, HEAD),
        data_collator=partial(collate_windows, pad_id=loaded.tokenizer.pad_token_id),
        compute_metrics=partial(qa_scores, questions) if rows.eval is not None else None,
    )


def _report_scores(context: WorkerContext, trainer: Any, rows: int) -> None:
    """Report the evaluation metrics of the weights that are kept."""
    evaluations = [log for log in trainer.state.log_history if "eval_f1" in log]
    if not evaluations:
        return
    best_step = trainer.state.best_global_step
    best = next((log for log in evaluations if log["step"] == best_step), evaluations[-1])
    metrics = {name: best[f"eval_{name}"] for name in ("exact_match", "f1")}
    context.log.write(ScoresEvent(rows=rows, after=metrics))


def _columns(example: QAExample) -> dict[str, Any]:
    return {
        "input_ids": example.input_ids,
        "token_type_ids": example.window.token_type_ids,
        "start_positions": example.start,
        "end_positions": example.end,
    }
