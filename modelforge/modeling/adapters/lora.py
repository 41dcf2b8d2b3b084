"""What is trained on the model: the adapter, and what every trainer needs once it is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from transformers import PrinterCallback

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.rules.weights import WEIGHT_CHANGING_INITS, split_names
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.adapters import init
from modelforge.modeling.errors import WorkerError

_TASKS: dict[Head, TaskType] = {
    "causal": TaskType.CAUSAL_LM,
    "seq2seq": TaskType.SEQ_2_SEQ_LM,
    "span": TaskType.QUESTION_ANS,
    "reward": TaskType.SEQ_CLS,
}


def lora_config(config: TrainingConfig, plan: Plan, head: Head = "causal") -> LoraConfig | None:
    """Return the adapter's shape, or None when every weight is trained."""
    if plan.trains == "all":
        return None
    said = config.adapter
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=plan.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=(
            "all-linear"
            if said.target_modules.strip() == "all-linear"
            else split_names(said.target_modules)
        ),
        modules_to_save=split_names(said.modules_to_save) if said.modules_to_save.strip() else None,
        use_rslora=said.use_rslora,
        use_dora=said.use_dora,
        init_lora_weights=said.init if said.init in ("gaussian", "orthogonal") else True,
        # A head that is new is trained whole and saved beside the adapter.
        exclude_modules=["qa_outputs"] if head == "span" else None,
        bias="none",
        task_type=_TASKS[head],
        revision=plan.model_revision,
    )


def load_start_adapter(model: Any, config: TrainingConfig, plan: Plan) -> Any:
    """Return the model with the adapter on that is to be trained on, or as it is without one.

    Raises WorkError when the adapter does not fit after all.
    """
    if plan.start_from is None:
        return model
    if not (Path(plan.start_from) / SAFETENSORS_WEIGHTS_NAME).is_file():
        raise WorkerError("start-missing", _no_start(plan.start_from))
    if config.gradient_checkpointing:
        model.enable_input_require_grads()
    try:
        return PeftModel.from_pretrained(model, plan.start_from, is_trainable=True)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        first = str(error).strip().split("\n", 1)[0]
        raise WorkerError("start-unsuited", _no_start(plan.start_from, first)) from error


def _no_start(folder: str, why: str = "") -> Problem:
    what = f"The adapter in {folder} {f'does not fit: {why}' if why else 'is gone'}."
    return Problem("adapter.start_from", what, "Name another one, or leave it empty.")


def add_adapter(model: Any, config: TrainingConfig, plan: Plan, head: Head) -> Any:
    """Return the model with its adapter on, for trainers that put none on themselves."""
    shape = missing_lora_config(model, config, plan, head)
    if shape is None:
        return model
    if config.gradient_checkpointing:
        model.enable_input_require_grads()
    return get_peft_model(model, shape)


def missing_lora_config(
    model: Any, config: TrainingConfig, plan: Plan, head: Head = "causal"
) -> LoraConfig | None:
    """Return the adapter that a trainer is still to put on `model`.

    None when every weight is trained, and when the provider has put one on already.
    """
    return None if isinstance(model, PeftModel) else lora_config(config, plan, head)


def prepare_trainer(trainer: Any, config: TrainingConfig, plan: Plan) -> Any:
    """Return the trainer with its adapter begun and in its number format, and no printer.

    What the adapter began with is kept as `trainer.adapter_init`, since saving needs it.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.create_scheduler = _counting(trainer, trainer.create_scheduler)
    # Unsloth puts its own adapter on, whose start and number format are left as they are.
    is_ours = plan.trains == "adapter" and config.provider != "unsloth"
    trainer.adapter_init = None
    if is_ours and plan.start_from is None and config.adapter.init in WEIGHT_CHANGING_INITS:
        trainer.adapter_init = init.AdapterInit(config.adapter.init, plan, config)
        init.initialize_adapter(trainer.model, trainer.adapter_init)
    # TRL 1.14 casts adapters on quantized weights to bf16: fp16's scaler fails on that, and small
    # updates are lost in it. PEFT itself keeps adapters in 32 bits, and so do we unless asked.
    dtype = getattr(torch, plan.adapter_dtype) if is_ours else torch.float32
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return trainer


def _counting(trainer: Any, create: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes the schedule once the updates are counted: a share of them is a number."""

    def made(num_training_steps: int, *args: Any, **kwargs: Any) -> Any:
        settings = dict(trainer.args.lr_scheduler_kwargs or {})
        decay = settings.get("num_decay_steps")
        if decay is not None and decay < 1:
            settings["num_decay_steps"] = round(decay * num_training_steps)
            trainer.args.lr_scheduler_kwargs = settings
        return create(num_training_steps, *args, **kwargs)

    return made
