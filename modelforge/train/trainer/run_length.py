"""Set the length of a run that is measured in records, tokens, FLOPs or parts of an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from modelforge.config.plan.run_length import Epoch, counts_epochs, epochs_of_run, ruling_measure
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.train.job import Job, WorkerContext
from modelforge.train.trainer.arguments import cap_intervals


def set_run_length(context: WorkerContext, trainer: Any, facts: Mapping[str, Any]) -> None:
    """Give the trainer the steps of the measure that rules, counted on the tokenized rows.

    Does nothing where steps or whole epochs rule, which Transformers counts itself, or where the
    plan knows the steps, as in a training from nothing.

    Args:
        context: The run.
        trainer: A trainer with its training rows.
        facts: The fields of the plan event; `train_rows` and `all_tokens` are those of one epoch.

    Raises:
        WorkerError: The tokens or the FLOPs of an epoch are unknown.
    """
    job, args = context.job, trainer.args
    measure = ruling_measure(job.config)
    is_known = measure == "max_steps" or job.plan.method == "pretraining"
    if is_known or counts_epochs(job.config):
        return
    epoch = tokenized_epoch(job, trainer, facts)
    epochs = epochs_of_run(job.config, epoch, job.plan.flops_per_token, job.plan.rope_factor)
    if epochs is None:
        what = f"{measure} decides the length of the run, but the size of the model is unknown."
        raise WorkerError("length-unknown", Problem(measure, what, "Set max steps instead."))
    steps = epoch.steps_for(epochs)
    args.max_steps = steps
    arguments = {
        "eval_steps": args.eval_steps,
        "save_steps": args.save_steps,
        "load_best_model_at_end": args.load_best_model_at_end,
    }
    for name, value in cap_intervals(arguments, steps).items():
        setattr(args, name, value)
    text = (
        f"{measure} decides the length of the run: {steps:,} steps, {epochs:.4g} passes over "
        f"{epoch.rows:,} rows."
    )
    context.log.note("run-length", text)


def tokenized_epoch(job: Job, trainer: Any, facts: Mapping[str, Any]) -> Epoch:
    """Return one pass over the tokenized rows of a trainer."""
    args, sequences = trainer.args, len(trainer.train_dataset)
    batches_of_step = args.gradient_accumulation_steps * job.plan.replicas
    per_step = args.per_device_train_batch_size * batches_of_step
    rows = int(facts.get("train_rows") or sequences)
    if job.plan.facts.generates:
        prompts = per_step // job.config.trainer.num_generations
        return Epoch(rows, rows, prompts, max(1, rows // prompts))
    batches = math.ceil(sequences / args.per_device_train_batch_size)
    steps = max(1, math.ceil(batches / batches_of_step))
    return Epoch(rows, sequences, per_step, steps, facts.get("all_tokens"))
