"""Pointing at answers by a span head on an encoder: question, context, first and last token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import transformers
from torch.utils.data import SequentialSampler
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
from modelforge.train.trainer.arguments import shared
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin

HEAD: Head = "span"
PLACES = ["start_positions", "end_positions"]
_TOKENS = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    [("input_ids", _TOKENS), ("token_type_ids", _TOKENS)] + [(name, pa.int32()) for name in PLACES]
)


@dataclass
class Asked:
    """Held-out questions as they were read, and the windows that each was cut into."""

    rows: list[Canonical] = field(default_factory=list)
    windows: list[list[Window]] = field(default_factory=list)

    def take(self, row: Canonical, found: list[QAExample]) -> None:
        """Keep one question."""
        self.rows.append(row)
        self.windows.append([each.window for each in found])

    def scores(self, predicted: Any) -> dict[str, float]:
        """Return exact match and F1 of what a model pointed at; a question too long counts."""
        starts, ends = predicted.predictions[:2]
        answers, at = [], 0
        for row, windows in zip(self.rows, self.windows, strict=True):
            part = slice(at, at + len(windows))
            answers.append(best_answer(row["context"], windows, starts[part], ends[part]).text)
            at += len(windows)
        references = [[answer["text"] for answer in row["answers"]] for row in self.rows]
        scoring = import_module("modelforge.modeling.text_metrics")
        scored: dict[str, float] = scoring.score_answers(answers, references)
        return scored


@dataclass(frozen=True)
class Collator:
    """Lays windows side by side, filled up on the right."""

    pad: int

    def __call__(self, windows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return windows as one batch."""
        width = max(len(each["input_ids"]) for each in windows)
        masks = [[1] * len(each["input_ids"]) for each in windows]
        columns = {
            "input_ids": _filled([each["input_ids"] for each in windows], width, self.pad),
            "attention_mask": _filled(masks, width, 0),
        }
        if windows[0].get("token_type_ids"):
            types = [each["token_type_ids"] for each in windows]
            columns["token_type_ids"] = _filled(types, width, 0)
        for name in PLACES:
            columns[name] = torch.tensor([each[name] for each in windows])
        return columns


class Trainer(OomRecoveryMixin, CheckpointMixin, transformers.Trainer):
    """The library's trainer, which reads held-out windows in their order."""

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        # Grouped by length they could not be put together to questions again.
        return SequentialSampler(eval_dataset)


def run(context: WorkerContext) -> None:
    """Do the whole of a run: load, cut contexts into windows, train, save."""
    # The head is new, and the same seed is to give the same head.
    set_seed(context.job.config.trainer.seed)
    loaded = context.load(HEAD)
    tokenized, asked = tokenize(context, loaded.tokenizer)
    context.stop.check()
    set_seed(context.job.config.trainer.seed)
    trainer = build(
        loaded,
        tokenized,
        config=context.job.config,
        plan=context.job.plan,
        checkpoints=context.job.run.checkpoints,
        score=asked.scores if tokenized.eval is not None else None,
    )
    facts = loop.token_counts(tokenized) | {"eval_rows": len(asked.rows)}

    def tell() -> None:
        loop.report_best_metrics(context, trainer, len(asked.rows), ("exact_match", "f1"))

    loop.learn(context, trainer, facts, tell)


def tokenize(context: WorkerContext, tokenizer: Any) -> tuple[dataset.Tokenized, Asked]:
    """Return the windows to train on and to check on, and the held-out questions themselves."""
    job, config = context.job, context.job.config
    manner = TokenizeOptions.from_plan(config, job.plan)
    order = dataset.DatasetRequest(job.dataset, config.eval_split, config.trainer.seed, manner)
    packers = dataset.TableBuilder(_SCHEMA), dataset.TableBuilder(_SCHEMA)
    asked, counts = Asked(), [0, 0]
    dropped = trained = read = 0
    for row, is_held_out in dataset.iter_split_rows(order, loop.tokenize_progress(context)):
        found = encode_qa(row, tokenizer, job.plan.max_length) if "context" in row else []
        dropped += not found
        if is_held_out and "context" in row:
            asked.take(row, found)
        counts[is_held_out] += len(found)
        for each in found:
            packers[is_held_out].add(_columns(each))
            if not is_held_out:
                trained, read = trained + each.trained_tokens, read + len(each.input_ids)
    if not counts[0]:
        raise WorkerError("nothing-to-learn", _nothing(job.plan.max_length))
    checked = packers[1].dataset() if counts[1] else None
    notes = list(_notes(dropped, lacks_check=bool(asked.rows) and checked is None))
    for code, text in notes:
        context.log.note(code, text)
    tokenized = dataset.Tokenized(
        packers[0].dataset(),
        checked,
        trained_tokens=trained,
        all_tokens=read,
        dropped_rows=dropped,
        notes=notes,
    )
    return tokenized, asked


def build(
    loaded: Any,
    tokenized: dataset.Tokenized,
    *,
    config: TrainingConfig,
    plan: Plan,
    checkpoints: Path,
    score: Callable[[Any], dict[str, float]] | None,
) -> Trainer:
    """Return a trainer with the adapter on the model; `score` is asked at every evaluation."""
    trainer = Trainer(
        model=add_adapter(load_start_adapter(loaded.model, config, plan), config, plan, HEAD),
        args=arguments(config, plan, checkpoints, evaluates=tokenized.eval is not None),
        train_dataset=tokenized.train,
        eval_dataset=tokenized.eval,
        processing_class=loaded.tokenizer,
        data_collator=Collator(loaded.tokenizer.pad_token_id),
        compute_metrics=score,
    )
    made: Trainer = prepare_trainer(trainer, config, plan)
    return made


def arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> TrainingArguments:
    """Return the settings as the library takes them."""
    return TrainingArguments(
        **shared(config, plan, checkpoints, evaluates=evaluates),
        train_sampling_strategy="group_by_length" if plan.group_by_length else "random",
        include_num_input_tokens_seen="non_padding",
        label_names=PLACES,
    )


def _notes(dropped: int, *, lacks_check: bool) -> Iterator[tuple[str, str]]:
    if dropped:
        text = f"Questions left out, as they leave no room for their context: {dropped:,}."
        yield "rows-dropped", text
    if lacks_check:
        yield dataset.NO_EVALUATION


def _columns(found: QAExample) -> dict[str, Any]:
    return {
        "input_ids": found.input_ids,
        "token_type_ids": found.window.token_type_ids,
        "start_positions": found.start,
        "end_positions": found.end,
    }


def _filled(rows: list[list[int]], width: int, value: int) -> torch.Tensor:
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def _nothing(max_length: int) -> Problem:
    return Problem(
        "dataset",
        f"No question leaves room for its context within {max_length:,} tokens.",
        "Raise the longest row (max_seq_length), or shorten the questions.",
    )
