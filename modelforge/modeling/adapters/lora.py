"""LoRA adapters: configuration, loading of an adapter to start from, and trainer preparation."""

from __future__ import annotations

from pathlib import Path
from types import MethodType
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftModel,
    PeftModelForQuestionAnswering,
    TaskType,
    get_peft_model,
)
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from transformers import PrinterCallback

from modelforge.config.methods import Head
from modelforge.config.plan.make import Plan
from modelforge.config.providers import PROVIDER_FACTS
from modelforge.config.rules.weights import WEIGHT_CHANGING_INITS, split_names
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem
from modelforge.modeling.adapters import init
from modelforge.modeling.errors import WorkerError, first_line

_TASKS: dict[Head, TaskType] = {
    "causal": TaskType.CAUSAL_LM,
    "seq2seq": TaskType.SEQ_2_SEQ_LM,
    "span": TaskType.QUESTION_ANS,
    "reward": TaskType.SEQ_CLS,
}


def lora_config(config: TrainingConfig, plan: Plan, head: Head = "causal") -> LoraConfig | None:
    """Return PEFT's config of the adapter, or None for full fine-tuning."""
    if plan.trains == "all":
        return None
    adapter = config.adapter
    targets, extra = adapter.target_modules.strip(), adapter.modules_to_save.strip()
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=plan.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets if targets == "all-linear" else split_names(targets),
        modules_to_save=split_names(extra) if extra else None,
        # Embeddings that are tied to the head stay so when either is trained.
        ensure_weight_tying=bool(extra),
        use_rslora=adapter.use_rslora,
        use_dora=adapter.use_dora,
        init_lora_weights=adapter.init if adapter.init in ("gaussian", "orthogonal") else True,
        # A new head is trained in full and saved with the adapter.
        exclude_modules=["qa_outputs"] if head == "span" else None,
        bias="none",
        task_type=_TASKS[head],
        revision=plan.model_revision,
    )


def missing_lora_config(
    model: Any, config: TrainingConfig, plan: Plan, head: Head = "causal"
) -> LoraConfig | None:
    """Return the config of the adapter that `model` still needs, or None if it has one."""
    return None if isinstance(model, PeftModel) else lora_config(config, plan, head)


def add_adapter(model: Any, config: TrainingConfig, plan: Plan, head: Head) -> Any:
    """Return the model with its adapter, for trainers that do not add one themselves."""
    lora = missing_lora_config(model, config, plan, head)
    if lora is None:
        return model
    if config.gradient_checkpointing:
        model.enable_input_require_grads()
    return with_token_types(get_peft_model(model, lora))


def with_token_types(model: Any) -> Any:
    """Return the model; one for extractive QA passes on token types, which PEFT 0.21 drops.

    Without them BERT reads question and context as one text, unlike in its own training and unlike
    the merged model.
    """
    if isinstance(model, PeftModelForQuestionAnswering):
        model.forward = MethodType(PeftModel.forward, model)
    return model


def load_start_adapter(model: Any, config: TrainingConfig, plan: Plan) -> Any:
    """Return the model with the adapter that training starts from, if there is one.

    Raises:
        WorkerError: The adapter is missing or does not fit the model.
    """
    if plan.start_from is None:
        return model
    if not (Path(plan.start_from) / SAFETENSORS_WEIGHTS_NAME).is_file():
        raise WorkerError("start-missing", _unusable_adapter(plan.start_from, "is missing"))
    if config.gradient_checkpointing:
        model.enable_input_require_grads()
    try:
        return with_token_types(
            PeftModel.from_pretrained(model, plan.start_from, is_trainable=True)
        )
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        reason = f"does not fit: {first_line(error)}"
        raise WorkerError("start-unsuited", _unusable_adapter(plan.start_from, reason)) from error


def prepare_trainer(trainer: Any, config: TrainingConfig, plan: Plan) -> Any:
    """Initialize the trainer's adapter, set its dtype, and remove the printing callback.

    The initialization is kept as `trainer.adapter_init`, because saving needs it.
    """
    trainer.remove_callback(PrinterCallback)
    is_ours = plan.trains == "adapter" and not PROVIDER_FACTS[config.provider].adds_adapter
    trainer.adapter_init = None
    if is_ours and plan.start_from is None and config.adapter.init in WEIGHT_CHANGING_INITS:
        trainer.adapter_init = init.AdapterInit(config.adapter.init, plan, config)
        init.initialize_adapter(trainer.model, trainer.adapter_init)
    # TRL 1.14 casts adapters on quantized weights to bf16: the fp16 scaler fails on that, and
    # small updates are lost. PEFT keeps adapters in 32 bits by default, and so does this.
    dtype = getattr(torch, plan.adapter_dtype) if is_ours else torch.float32
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return trainer


def _unusable_adapter(folder: str, reason: str) -> Problem:
    what = f"The adapter in {folder} {reason}."
    return Problem("adapter.start_from", what, "Choose another adapter, or leave it empty.")
