"""Training from nothing: a model of random weights learns to continue the user's text."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from modelforge.config.methods import Head
from modelforge.config.optimizers import MUON
from modelforge.config.plan.pretraining import effective_settings, eval_tokens
from modelforge.config.pretraining.peak_flops import peak_flops
from modelforge.config.pretraining.settings import shape_of
from modelforge.modeling.pretraining.token_bytes import ByteMeter, token_bytes
from modelforge.train import loop
from modelforge.train.continuations import continuation_sampler
from modelforge.train.job import Job, WorkerContext
from modelforge.train.pretraining.corpus import Corpus, CorpusHash, open_corpus
from modelforge.train.pretraining.muon_schedule import MuonSchedule
from modelforge.train.pretraining.start_model import start_model
from modelforge.train.pretraining.trainer import PassCounter, PretrainingTrainer
from modelforge.train.pretraining.windows import EvalWindows, TrainingWindows, collate
from modelforge.train.ranks.group import first_process_alone
from modelforge.train.trainer.arguments import common_arguments, make_trainer

HEAD: Head = "causal"


def run(context: WorkerContext) -> None:
    """Do a whole run: make the model, tokenize the text, train, save."""
    context = replace(context, job=with_planned_settings(context.job))
    job = context.job
    with first_process_alone(job.plan.ranks):
        folder = start_model(context)
    loaded = context.load(HEAD, str(folder))
    if job.config.pretraining.freeze_embeddings:
        loaded.model.get_input_embeddings().requires_grad_(False)
    with first_process_alone(job.plan.ranks):
        corpus = open_corpus(context, loaded.tokenizer, job.run.tokens, job.plan.max_length)
    context.stop.check()
    set_seed(job.config.trainer.seed)
    trainer = build_trainer(job, loaded, corpus)
    parts = {"corpus": CorpusHash(corpus.train.facts.sha256)}
    facts = text_facts(job, trainer, corpus) | flops_facts(job, loaded.model.config.vocab_size)
    sampler = continuation_sampler(context, loaded.tokenizer)
    progress = loop.train_and_finish(context, trainer, facts, sampler=sampler, parts=parts)
    if progress.is_complete and context.is_main:
        shutil.rmtree(job.run.tokens, ignore_errors=True)


def with_planned_settings(job: Job) -> Job:
    """Return the job with the rates, the weight decay and the batch of its plan."""
    planned = job.plan.pretraining
    assert planned is not None, "the method is pretraining"
    return replace(job, config=job.config.with_changes(effective_settings(planned, job.config)))


def build_trainer(job: Job, loaded: Any, corpus: Corpus) -> PretrainingTrainer:
    """Return a trainer on the windows of the text."""
    config, plan = job.config, job.plan
    args = training_arguments(job, evaluates=corpus.eval is not None)
    rows = text_windows(job, corpus, args)
    trainer: PretrainingTrainer = make_trainer(
        PretrainingTrainer, job, loaded, rows, args, data_collator=collate
    )
    trainer.meter = ByteMeter(token_bytes(loaded.tokenizer, loaded.model.config.vocab_size))
    trainer.add_callback(PassCounter(len(corpus.train) / rows_per_step(args)))
    if plan.optim in MUON:
        trainer.add_callback(MuonSchedule(config.optimizer.muon_momentum, config.weight_decay))
    return trainer


@dataclass(frozen=True)
class TextWindows:
    """The windows of a trainer: those of all its steps, and those that are evaluated."""

    train: TrainingWindows
    eval: EvalWindows | None


def text_windows(job: Job, corpus: Corpus, args: TrainingArguments) -> TextWindows:
    """Return the windows of a run; an evaluation reads a part of its text if it is long.

    Without `evaluation.eval_tokens` evaluations then take about a twentieth of the time: a forward
    pass is a third of a step.
    """
    rows = rows_per_step(args)
    train = TrainingWindows(corpus.train, job.config.trainer.seed, args.max_steps * rows)
    if corpus.eval is None:
        return TextWindows(train, None)
    between = (job.plan.eval_steps or args.max_steps) * rows * corpus.eval.context
    tokens = eval_tokens(job.config, between)
    return TextWindows(train, EvalWindows(corpus.eval, max(1, tokens // corpus.eval.context)))


def rows_per_step(args: TrainingArguments) -> int:
    """Return the windows of a step, of all processes."""
    rows: int = args.per_device_train_batch_size * args.gradient_accumulation_steps
    return rows * args.world_size


def training_arguments(job: Job, *, evaluates: bool) -> TrainingArguments:
    """Return the arguments of Transformers' trainer."""
    own = {
        "max_steps": job.plan.total_steps,
        # The windows are in the order of the training.
        "train_sampling_strategy": "sequential",
        # Reading a window from a mapped file is faster than getting it from another process.
        "dataloader_num_workers": 0,
    }
    return TrainingArguments(
        **(common_arguments(job, evaluates=evaluates) | own),
        include_num_input_tokens_seen="all",
        label_names=["shift_labels"],
        prediction_loss_only=True,
        remove_unused_columns=False,
    )


def text_facts(job: Job, trainer: PretrainingTrainer, corpus: Corpus) -> dict[str, Any]:
    """Return the fields of the plan event about the text; a row is a window."""
    windows, evaluated = len(corpus.train), trainer.eval_dataset
    facts: dict[str, Any] = {
        "train_rows": windows,
        "eval_rows": 0 if evaluated is None else len(evaluated),
        "trained_tokens": windows * corpus.train.context,
        "all_tokens": corpus.train.facts.tokens,
        "bytes_per_token": corpus.train.facts.text_bytes / corpus.train.facts.tokens,
        "truncated_rows": 0,
    }
    # A trial run counts the steps of its dataset, which has those of the training.
    if not job.is_trial_run:
        facts["steps_per_epoch"] = windows / rows_per_step(trainer.args)
    return facts


def flops_facts(job: Job, vocab_size: int) -> dict[str, Any]:
    """Return the fields `flops_per_token` and `peak_flops` of the plan event.

    The peak is that of all GPUs of the run.

    Args:
        job: a training from nothing.
        vocab_size: tokens of the tokenizer, own or borrowed.
    """
    shape = shape_of(job.config.pretraining, context=job.plan.max_length, vocab_size=vocab_size)
    peak = peak_flops(torch.cuda.get_device_name()) if job.plan.device == "cuda" else None
    peak = None if peak is None else peak * job.plan.ranks
    return {"flops_per_token": float(shape.flops_per_token), "peak_flops": peak}
