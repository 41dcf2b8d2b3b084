"""Merge the adapter of a finished run into its base model, as the last part of the run."""

from __future__ import annotations

import gc
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers.utils import cached_file

from modelforge.config.plan.make import Plan
from modelforge.errors import ForgeError, Problem, RunError
from modelforge.modeling.errors import first_line
from modelforge.train.job import WorkerContext
from modelforge.train.stop import StopRequested

NOT_MERGED = "not-merged"


def merge_result(context: WorkerContext, trainer: Any | None) -> str | None:
    """Merge the saved adapter, if configured, and return the name of the folder.

    None is returned, with a note, where it cannot be merged or a stop is requested: the run keeps
    its adapter. Optimizer and gradients are freed, so the trainer cannot train any more; it is None
    where another program has trained.
    """
    job, log = context.job, context.log
    if not job.config.adapter.merge_after_training or job.plan.trains != "adapter":
        return None
    text = f"Merging the adapter into {Path(job.plan.model_path).name}"
    log.phase("merging", text, done=0, total=100)

    def progress(share: float) -> None:
        context.stop.check()
        log.phase("merging", text, done=round(100 * share), total=100)

    if trainer is not None:
        _free_training(trainer)
    staged, target = job.run.merged_staged, job.run.merged
    try:
        for folder in (staged, target):
            shutil.rmtree(folder, ignore_errors=True)
        staged.mkdir()
        base, output = _base_folder(job.plan), job.run.output
        # Imported by name: it loads models, which strategies leave to the provider.
        merging = import_module("modelforge.modeling.merging.model")
        source = merging.MergeSource(base, output, output, job.plan)
        merging.write_merged(source, staged, progress)
        staged.rename(target)
    except StopRequested:
        log.note(NOT_MERGED, "The merge was stopped; the adapter is kept.")
    except (ForgeError, OSError, RuntimeError, ValueError, MemoryError, SafetensorError) as error:
        remedy = "The adapter is saved; the Export page merges it too."
        log.note(NOT_MERGED, f"The adapter could not be merged: {_reason(error)} {remedy}")
    else:
        return target.name
    shutil.rmtree(staged, ignore_errors=True)
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, ForgeError):
        return " ".join(problem.what for problem in error.problems)
    return f"{first_line(error).rstrip('.')}."


def _free_training(trainer: Any) -> None:
    """Free what only further steps would need."""
    trainer.model.zero_grad(set_to_none=True)
    trainer.accelerator.free_memory()
    trainer.optimizer = trainer.lr_scheduler = None
    gc.collect()


def _base_folder(plan: Plan) -> Path:
    """Return the folder with the files of the base model, which the run has loaded from it."""
    found = cached_file(
        plan.model_path,
        "config.json",
        revision=plan.model_revision,
        local_files_only=True,
        _raise_exceptions_for_missing_entries=False,
    )
    if found is None:
        what = "The files of the base model are not on this computer any more."
        raise RunError(Problem("base model", what, "Download it again."))
    return Path(found).parent
