"""Differential privacy of a run: set up as its settings say, and reported."""

from __future__ import annotations

import math
from typing import Any

from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError
from modelforge.train.job import WorkerContext
from modelforge.train.trainer.checkpointing import Stateful
from modelforge.train.trainer.privacy import PrivacyAccount, PrivacyCallback, PrivacyMixin


def protect_rows(context: WorkerContext, trainer: Any, steps_per_epoch: int) -> dict[str, Stateful]:
    """Train with differential privacy, if configured; return its saved state.

    Raises:
        WorkerError: The trainer has none, or the privacy is spent.
    """
    settings = context.job.config.privacy
    if not settings.enabled:
        return {}
    if not isinstance(trainer, PrivacyMixin):
        what = f"There is no differential privacy for {context.job.plan.facts.label}."
        problem = Problem("privacy.enabled", what, "Choose the strategy sft, or set it to false.")
        raise WorkerError("privacy-method", problem)
    args, rows = trainer.args, len(trainer.train_dataset)
    steps = args.max_steps
    if steps <= 0:
        steps = math.ceil(args.num_train_epochs * steps_per_epoch)
    batch = args.per_device_train_batch_size
    trainer.privacy = PrivacyAccount(settings, rows=rows, batch=batch, steps=steps)
    return {"privacy": trainer.privacy}


def report_privacy(context: WorkerContext, trainer: Any, stage: int | None) -> None:
    """Report the privacy that is spent, if there is any to report."""
    if context.job.config.privacy.enabled:
        trainer.add_callback(PrivacyCallback(trainer.privacy, context.log, stage))
