"""Arguments that every strategy gives its trainer, by their Transformers names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from accelerate.utils import patch_environment

from modelforge.config.optimizers import MUON, RESULT_SCHEDULES
from modelforge.config.plan.make import Plan
from modelforge.config.plan.run_length import counts_epochs
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.adapters.lora import prepare_trainer
from modelforge.modeling.errors import WorkerError
from modelforge.train.job import Job
from modelforge.train.optimizer.create import use_groups
from modelforge.train.optimizer.schedule import extend_schedule
from modelforge.train.trainer.sharding import sharding_arguments

# A factor for intervals that no run reaches.
NEVER = 10**9


def make_trainer(kind: Any, job: Job, loaded: Any, rows: Any, args: Any, **others: Any) -> Any:
    """Return a trainer of the class `kind`, with the adapter on the model.

    `loaded` has `model` and `tokenizer`; `rows` has `train` and `eval`, tokenized. `others` are
    further arguments of the trainer, or another model. A trainer with the attribute `own_rate`
    trains all weights at the learning rate of `args`.
    """
    with _compiled_regions(job.config, job.plan):
        trainer = kind(
            **{"model": loaded.model, **others},
            args=args,
            train_dataset=rows.train,
            eval_dataset=rows.eval,
            processing_class=loaded.tokenizer,
        )
    prepare_trainer(trainer, job.config, job.plan)
    extend_schedule(trainer)
    use_groups(trainer, job.config, job.plan, own_rate=getattr(kind, "own_rate", False))
    return trainer


@contextmanager
def _compiled_regions(config: TrainingConfig, plan: Plan) -> Iterator[None]:
    """Let trainers that are constructed inside compile one layer for all, where configured.

    accelerate reads it from the environment; Transformers' trainer has no argument for it.
    """
    if plan.torch_compile and config.hardware.regional_compilation:
        with patch_environment(ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION="true"):
            yield
    else:
        yield


def common_arguments(job: Job, *, evaluates: bool) -> dict[str, Any]:
    """Return keyword arguments for TrainingArguments.

    Raises:
        WorkerError: fp16 on the CPU, which has no gradient scaler.
    """
    config, plan = job.config, job.plan
    if plan.precision == "fp16" and plan.device == "cpu":
        what = "Training in fp16 needs a GPU; this run uses the CPU."
        remedy = "Choose bf16, or leave both fp16 and bf16 off."
        raise WorkerError("fp16-needs-gpu", Problem("fp16", what, remedy))
    return {
        "output_dir": str(job.run.checkpoints),
        "num_train_epochs": config.num_train_epochs,
        "max_steps": config.max_steps,
        **_batches(config, plan),
        "per_device_eval_batch_size": config.per_device_eval_batch_size,
        "gradient_checkpointing": config.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        # With differential privacy the gradient of each row is clipped, before the noise.
        "max_grad_norm": 0.0 if config.privacy.enabled else config.max_grad_norm,
        "neftune_noise_alpha": config.trainer.neftune_noise_alpha,
        "fp16": plan.precision == "fp16",
        "bf16": plan.precision == "bf16",  # set also when false: the default of TRL is true
        "use_cpu": plan.device == "cpu",
        "seed": config.trainer.seed,
        "data_seed": config.trainer.seed,
        # On Windows a worker process imports everything again, which takes longer than it saves.
        "dataloader_num_workers": 0 if sys.platform == "win32" else plan.num_workers,
        "train_sampling_strategy": sampling_strategy(config, plan),
        **_compilation(plan),
        "dataloader_pin_memory": plan.device == "cuda",
        **_logging(config),
        **_optimizer(config, plan, evaluates=evaluates),
        **_intervals(config, plan, evaluates=evaluates),
        **_offload(config, plan),
        **sharding_arguments(plan),
    }


def _batches(config: TrainingConfig, plan: Plan) -> dict[str, int]:
    """Return the batch size; with differential privacy the rows of a step are drawn at once."""
    rows = plan.rank_batch_size or config.per_device_train_batch_size
    batches = plan.gradient_accumulation_steps
    if config.privacy.enabled:
        rows, batches = rows * batches, 1
    return {"per_device_train_batch_size": rows, "gradient_accumulation_steps": batches}


def sampling_strategy(
    config: TrainingConfig, plan: Plan
) -> Literal["sequential", "group_by_length", "random"]:
    """Return how the trainer orders its rows, by the name that Transformers has for it."""
    if not config.data.shuffle:
        return "sequential"
    return "group_by_length" if plan.group_by_length else "random"


def known_steps(job: Job, of_epochs: int) -> int:
    """Return the steps of the run: those of its whole epochs, unless another measure decides.

    Tokens, records and FLOPs are counted later; until then the steps are those of the plan.
    """
    config = job.config
    if config.max_steps > 0:
        return config.max_steps
    return of_epochs if counts_epochs(config) else job.plan.total_steps or NEVER


def cap_intervals(arguments: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return `eval_steps` and `save_steps` such that a run of `steps` evaluates at least once.

    With `load_best_model_at_end`, Transformers requires that every save falls on an evaluation.
    """
    eval_steps, save_steps = arguments["eval_steps"], arguments["save_steps"]
    if eval_steps is None:
        return {"eval_steps": None, "save_steps": save_steps}
    eval_steps = min(eval_steps, steps)
    if arguments["load_best_model_at_end"]:
        save_steps = -(-save_steps // eval_steps) * eval_steps
    return {"eval_steps": eval_steps, "save_steps": save_steps}


def _compilation(plan: Plan) -> dict[str, Any]:
    # A mode alone switches compilation on, and the default mode has the name None there.
    mode = plan.torch_compile_mode if plan.torch_compile else None
    return {
        "torch_compile": plan.torch_compile,
        "torch_compile_mode": None if mode == "default" else mode,
    }


def _offload(config: TrainingConfig, plan: Plan) -> dict[str, Any]:
    """Return the argument that offloads all activations; `recomputation` does it for some."""
    offloads_all = plan.activation_offload and not config.gradient_checkpointing
    return {"activation_offloading": True} if offloads_all else {}


def _logging(config: TrainingConfig) -> dict[str, Any]:
    return {
        "logging_strategy": "steps",
        "logging_steps": config.logging.logging_steps,
        "logging_nan_inf_filter": False,  # a loss that is not finite must be seen
        "report_to": "none",
        "disable_tqdm": True,
    }


def _optimizer(config: TrainingConfig, plan: Plan, *, evaluates: bool) -> dict[str, Any]:
    schedule: tuple[str, dict[str, Any]] = (plan.lr_scheduler_type, plan.lr_scheduler_kwargs)
    if schedule[0] in RESULT_SCHEDULES and not evaluates:
        # All evaluation rows were unusable. Without results the rate never changes.
        schedule = ("constant", {})
    return {
        "learning_rate": plan.learning_rate or config.learning_rate,
        "weight_decay": config.weight_decay,
        # `use_groups` makes the optimizers that have no name in Transformers.
        "optim": "adamw_torch" if plan.optim in MUON else plan.optim,
        "adam_beta1": config.optimizer.beta1,
        "adam_beta2": config.optimizer.beta2,
        "adam_epsilon": config.optimizer.epsilon,
        "lr_scheduler_type": schedule[0],
        "lr_scheduler_kwargs": schedule[1],
        "warmup_steps": plan.warmup_steps,  # below 1: a share of all steps
    }


def _intervals(config: TrainingConfig, plan: Plan, *, evaluates: bool) -> dict[str, Any]:
    save_steps = plan.save_steps
    if save_steps == -1:
        # Transformers always saves at the end.
        save_steps = (plan.eval_steps or 1) * NEVER
    return {
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": plan.eval_steps if evaluates else None,
        "save_strategy": "steps",
        "save_steps": save_steps,
        "save_total_limit": None,  # `checkpoints.prune` deletes old ones after the new one is safe
        "load_best_model_at_end": evaluates and config.evaluation.keep_best,
    }
