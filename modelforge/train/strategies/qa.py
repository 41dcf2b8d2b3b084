"""Extractive question answering: an encoder predicts the first and last token of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import transformers
from transformers import TrainingArguments, set_seed

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.data.canonical.convert import Canonical
from modelforge.data.canonical.qa_windows import Window, best_answer
from modelforge.errors import Problem
from modelforge.modeling.adapters.lora import add_adapter, load_start_adapter, prepare_trainer
from modelforge.modeling.errors import WorkerError
from modelforge.modeling.tokenize import dataset
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.qa import QAExample, encode_qa
from modelforge.train import loop
from modelforge.train.job import WorkerContext
from modelforge.train.trainer.arguments import common_arguments
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin
from modelforge.train.trainer.private import OrderedEvalMixin

HEAD: Head = "span"
POSITIONS = ["start_positions", "end_positions"]
_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    [("input_ids", _TOKENS), ("token_type_ids", _TOKENS)]
    + [(name, pa.int32()) for name in POSITIONS]
)


@dataclass
class EvalQuestions:
    """Evaluation questions, and the windows that each context was cut into."""

    rows: list[Canonical] = field(default_factory=list)
    windows: list[list[Window]] = field(default_factory=list)

    def add(self, row: Canonical, examples: list[QAExample]) -> None:
        """Add one question."""
        self.rows.append(row)
        self.windows.append([example.window for example in examples])

    def scores(self, prediction: Any) -> dict[str, float]:
        """Return exact match and F1; a question without a window counts as answered wrongly.

        `prediction.predictions` are start and end logits of shape (windows, seq), in order.
        """
        starts, ends = prediction.predictions[:2]
        answers, first = [], 0
        for row, windows in zip(self.rows, self.windows, strict=True):
            part = slice(first, first + len(windows))
            answers.append(best_answer(row["context"], windows, starts[part], ends[part]).text)
            first += len(windows)
        references = [[answer["text"] for answer in row["answers"]] for row in self.rows]
        text_metrics = import_module("modelforge.modeling.text_metrics")
        scores: dict[str, float] = text_metrics.squad_scores(answers, references)
        return scores


@dataclass(frozen=True)
class WindowCollator:
    """Pads windows on the right to tensors of shape (batch, seq) int64."""

    pad_id: int

    def __call__(self, windows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the windows as one batch; the positions have shape (batch,)."""
        ids = [window["input_ids"] for window in windows]
        width = max(map(len, ids))
        batch = {
            "input_ids": _padded(ids, width, self.pad_id),
            "attention_mask": _padded([[1] * len(row) for row in ids], width, 0),
        }
        if windows[0].get("token_type_ids"):
            types = [window["token_type_ids"] for window in windows]
            batch["token_type_ids"] = _padded(types, width, 0)
        for name in POSITIONS:
            batch[name] = torch.tensor([window[name] for window in windows])
        return batch


class QaTrainer(OomRecoveryMixin, CheckpointMixin, OrderedEvalMixin, transformers.Trainer):
    """Transformers' Trainer; evaluation windows stay in order so that scores can group them."""


def run(context: WorkerContext) -> None:
    """Do a whole run: load, cut the contexts into windows, train, save."""
    job = context.job
    # The head is initialized at random, so the seed has to be set before it is made.
    set_seed(job.config.trainer.seed)
    loaded = context.load(HEAD)
    tokenized, questions = tokenize(context, loaded.tokenizer)
    context.stop.check()
    set_seed(job.config.trainer.seed)
    trainer = build_trainer(
        loaded,
        tokenized,
        config=job.config,
        plan=job.plan,
        checkpoints=job.run.checkpoints,
        compute_metrics=questions.scores if tokenized.eval is not None else None,
    )
    facts = loop.token_counts(tokenized) | {"eval_rows": len(questions.rows)}

    def score() -> None:
        loop.report_best_metrics(context, trainer, len(questions.rows), ("exact_match", "f1"))

    loop.train_and_finish(context, trainer, facts, score)


def tokenize(context: WorkerContext, tokenizer: Any) -> tuple[dataset.Tokenized, EvalQuestions]:
    """Return the windows to train and evaluate on, and the evaluation questions."""
    job, config = context.job, context.job.config
    options = TokenizeOptions.from_plan(config, job.plan)
    request = dataset.DatasetRequest(job.dataset, config.eval_split, config.trainer.seed, options)
    tables = dataset.TableBuilder(_SCHEMA), dataset.TableBuilder(_SCHEMA)
    questions, counts = EvalQuestions(), [0, 0]
    dropped = trained_tokens = all_tokens = 0
    for row, is_eval in dataset.iter_split_rows(request, loop.tokenize_progress(context)):
        examples = encode_qa(row, tokenizer, job.plan.max_length) if "context" in row else []
        dropped += not examples
        if is_eval and "context" in row:
            questions.add(row, examples)
        counts[is_eval] += len(examples)
        for example in examples:
            tables[is_eval].add(_columns(example))
            if not is_eval:
                trained_tokens += example.trained_tokens
                all_tokens += len(example.input_ids)
    if not counts[0]:
        raise WorkerError("nothing-to-learn", _nothing_to_learn(job.plan.max_length))
    eval_dataset = tables[1].dataset() if counts[1] else None
    notes = list(_notes(dropped, lacks_eval=bool(questions.rows) and eval_dataset is None))
    for code, text in notes:
        context.log.note(code, text)
    tokenized = dataset.Tokenized(
        tables[0].dataset(),
        eval_dataset,
        trained_tokens=trained_tokens,
        all_tokens=all_tokens,
        dropped_rows=dropped,
        notes=notes,
    )
    return tokenized, questions


def build_trainer(
    loaded: Any,
    tokenized: dataset.Tokenized,
    *,
    config: TrainingConfig,
    plan: Plan,
    checkpoints: Path,
    compute_metrics: Callable[[Any], dict[str, float]] | None,
) -> QaTrainer:
    """Return a trainer with the adapter on the model."""
    evaluates = tokenized.eval is not None
    model = load_start_adapter(loaded.model, config, plan)
    trainer = QaTrainer(
        model=add_adapter(model, config, plan, HEAD),
        args=training_arguments(config, plan, checkpoints, evaluates=evaluates),
        train_dataset=tokenized.train,
        eval_dataset=tokenized.eval,
        processing_class=loaded.tokenizer,
        data_collator=WindowCollator(loaded.tokenizer.pad_token_id),
        compute_metrics=compute_metrics,
    )
    prepared: QaTrainer = prepare_trainer(trainer, config, plan)
    return prepared


def training_arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> TrainingArguments:
    """Return the arguments of Transformers' trainer."""
    return TrainingArguments(
        **common_arguments(config, plan, checkpoints, evaluates=evaluates),
        train_sampling_strategy="group_by_length" if plan.group_by_length else "random",
        include_num_input_tokens_seen="non_padding",
        label_names=POSITIONS,
    )


def _notes(dropped: int, *, lacks_eval: bool) -> Iterator[tuple[str, str]]:
    if dropped:
        text = f"{dropped:,} questions are skipped: too long to leave tokens for their context."
        yield "rows-dropped", text
    if lacks_eval:
        yield dataset.NO_EVALUATION


def _columns(example: QAExample) -> dict[str, Any]:
    return {
        "input_ids": example.input_ids,
        "token_type_ids": example.window.token_type_ids,
        "start_positions": example.start,
        "end_positions": example.end,
    }


def _padded(rows: list[list[int]], width: int, value: int) -> torch.Tensor:
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def _nothing_to_learn(max_length: int) -> Problem:
    return Problem(
        "dataset",
        f"No question leaves tokens for its context within {max_length:,}.",
        "Raise the max sequence length (max_seq_length), or shorten the questions.",
    )
