"""The training itself, and what becomes of it: finished, or stopped and kept or not."""

from __future__ import annotations

import math
import shutil
import time
from typing import Any

from transformers import set_seed

from modelforge.runs.layout import RunFolder
from modelforge.train import output, rows
from modelforge.train.dialect import learn_dialect, stops_of
from modelforge.train.job import Job
from modelforge.train.manner import Manner
from modelforge.train.pulse import Pulse
from modelforge.train.reporter import Course, Reporter
from modelforge.train.stop import Stop, StopAsked
from modelforge.train.telling import Teller
from modelforge.train.templates import template_text


def tokenize(job: Job, loaded: Any, teller: Teller, stop: Stop) -> rows.Tokenized:
    """Turn the data into tokens, and teach the model's generation config where answers end."""
    config = job.config
    generation = loaded.model.generation_config
    dialect = learn_dialect(
        loaded.tokenizer,
        stops_of(generation),
        template=template_text(config.model.chat_template),
        system_prompt=config.model.system_prompt,
    )
    generation.eos_token_id = sorted(dialect.stops)
    manner = Manner.of(config, job.plan)
    order = rows.Order(job.dataset, config.eval_split, config.trainer.seed, manner)

    def tokenizing(done: int, total: int) -> None:
        stop.check()
        teller.phase("tokenizing", "Turning the rows into tokens", done=done, total=total)

    teller.phase("tokenizing", "Turning the rows into tokens")
    for name in rows.changed_files(job.dataset):
        teller.note("data-changed", f"{name} has changed since the run was checked.")
    tokenized = rows.tokenize(order, dialect, tokenizing)
    for code, text in (*dialect.notes, *tokenized.notes):
        teller.note(code, text)
    return tokenized


def train(
    job: Job, strategy: Any, loaded: Any, tokenized: rows.Tokenized, teller: Teller, stop: Stop
) -> None:
    """Train, save what is to be kept, and tell how it ended."""
    began = time.monotonic()
    set_seed(job.config.trainer.seed)
    trainer = strategy.build(
        loaded.model,
        loaded.tokenizer,
        (tokenized.train, tokenized.held_out),
        config=job.config,
        plan=job.plan,
        checkpoints=job.run.checkpoints,
    )
    facts = _facts(job, trainer, tokenized)
    reporter = Reporter(teller, stop, Pulse(job.plan.device), facts)
    trainer.add_callback(reporter)
    course = reporter.course
    try:
        trainer.train()
        is_whole = course.step >= trainer.state.max_steps
    except StopAsked:
        is_whole = False
    if not is_whole:
        _end_early(job, strategy, trainer, course, teller, stop)
        return
    _save(job, trainer, course, teller)
    teller.say(f"Finished after {course.step:,} updates.")
    teller.end(
        "finished",
        steps=course.step,
        seconds=round(time.monotonic() - began, 1),
        output=job.run.output.name,
        loss=course.loss,
        eval_loss=course.best_loss,
        best_step=course.best_step,
    )


def abandon(run: RunFolder, teller: Teller, *, step: int = 0) -> None:
    """Tell that the run was stopped and nothing of it is kept; its checkpoints go."""
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    teller.say(f"Stopped at update {step:,}; nothing is kept.")
    teller.end("stopped", step=step, kept=False, best_step=None)


def _end_early(
    job: Job, strategy: Any, trainer: Any, course: Course, teller: Teller, stop: Stop
) -> None:
    if stop.wish == "discard" or course.step == 0:
        abandon(job.run, teller, step=course.step)
        return
    # While the held-out loss still falls the newest weights are the best; after that, those of
    # the check that was best.
    best_step = None if course.best_step == course.checked_step else course.best_step
    if best_step is not None:
        strategy.take_best(trainer)
    _save(job, trainer, course, teller)
    teller.say(f"Stopped at update {course.step:,}; the adapter is kept.")
    teller.end("stopped", step=course.step, kept=True, best_step=best_step)


def _save(job: Job, trainer: Any, course: Course, teller: Teller) -> None:
    teller.phase("saving", "Saving the adapter")
    output.save(job.run, trainer.model, trainer.processing_class, name=job.name, steps=course.step)


def _facts(job: Job, trainer: Any, tokenized: rows.Tokenized) -> dict[str, Any]:
    """Return what the plan event says besides the number of updates."""
    config, plan = job.config, job.plan
    trainable, total = trainer.model.get_nb_trainable_parameters()
    batches = math.ceil(len(trainer.train_dataset) / config.per_device_train_batch_size)
    return {
        "steps_per_epoch": math.ceil(batches / config.gradient_accumulation_steps),
        "train_rows": len(tokenized.train),
        "eval_rows": len(tokenized.held_out) if tokenized.held_out is not None else 0,
        "trainable_parameters": trainable,
        "total_parameters": total,
        "trained_tokens": tokenized.trained_tokens,
        "all_tokens": tokenized.all_tokens,
        "truncated_rows": tokenized.truncated_rows,
        "max_length": plan.max_length,
        "device": plan.device,
        "precision": plan.precision,
        "quantization": plan.quantization,
    }
