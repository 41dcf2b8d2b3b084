"""The settings that every trainer takes, by the names of transformers' TrainingArguments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

# So many intervals that none is ever reached.
NEVER = 10**9


def shared(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> dict[str, Any]:
    """Return the settings of TrainingArguments. Names that changed their home are noted.

    Raises WorkError for fp16 on the CPU, which has no scaler for it.
    """
    if plan.precision == "fp16" and plan.device == "cpu":
        raise WorkerError("fp16-needs-gpu", _no_fp16())
    return {
        "output_dir": str(checkpoints),
        "num_train_epochs": config.num_train_epochs,
        "max_steps": config.max_steps,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "per_device_eval_batch_size": config.per_device_eval_batch_size,
        "gradient_accumulation_steps": plan.gradient_accumulation_steps,
        "gradient_checkpointing": config.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "max_grad_norm": config.max_grad_norm,
        "neftune_noise_alpha": config.trainer.neftune_noise_alpha,
        "fp16": plan.precision == "fp16",
        "bf16": plan.precision == "bf16",  # said also when false: TRL would switch it on
        "use_cpu": plan.device == "cpu",
        "seed": config.trainer.seed,
        "data_seed": config.trainer.seed,
        # Windows starts a process anew, imports and all, which costs more than it saves.
        "dataloader_num_workers": 0 if sys.platform == "win32" else plan.num_workers,
        "torch_compile": plan.torch_compile,
        "dataloader_pin_memory": plan.device == "cuda",
        **_words(config),
        **_updates(config, plan),
        **_checks(config, plan, evaluates=evaluates),
    }


def within(settings: dict[str, Any], updates: int) -> dict[str, Any]:
    """Return how often is checked and saved in a run of so many updates: once at least.

    Where the best is kept Transformers wants every checkpoint to fall on a check.
    """
    checked, saved = settings["eval_steps"], settings["save_steps"]
    if checked is None:
        return {"eval_steps": None, "save_steps": saved}
    checked = min(checked, updates)
    if settings["load_best_model_at_end"]:
        saved = -(-saved // checked) * checked
    return {"eval_steps": checked, "save_steps": saved}


def _words(config: TrainingConfig) -> dict[str, Any]:
    return {
        "logging_strategy": "steps",
        "logging_steps": config.logging.logging_steps,
        "logging_nan_inf_filter": False,  # a loss that is no number must be seen
        "report_to": "none",
        "disable_tqdm": True,
    }


def _updates(config: TrainingConfig, plan: Plan) -> dict[str, Any]:
    return {
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "optim": plan.optim,
        "adam_beta1": config.optimizer.beta1,
        "adam_beta2": config.optimizer.beta2,
        "adam_epsilon": config.optimizer.epsilon,
        "lr_scheduler_type": plan.lr_scheduler_type,
        "lr_scheduler_kwargs": plan.lr_scheduler_kwargs,
        "warmup_steps": plan.warmup_steps,  # below 1 a share, as warmup_ratio once was
    }


def _checks(config: TrainingConfig, plan: Plan, *, evaluates: bool) -> dict[str, Any]:
    saved = plan.save_steps
    if saved == -1:
        # Transformers saves at the end by itself, whatever the interval.
        saved = (plan.eval_steps or 1) * NEVER
    return {
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": plan.eval_steps if evaluates else None,
        "save_strategy": "steps",
        "save_steps": saved,
        "save_total_limit": None,  # old ones are deleted by our own hand, once the new one is safe
        "load_best_model_at_end": evaluates and config.evaluation.keep_best,
    }


def _no_fp16() -> Problem:
    return Problem(
        "fp16",
        "Training in fp16 needs a GPU; this run uses the CPU.",
        "Choose bf16, or leave both fp16 and bf16 off.",
    )
