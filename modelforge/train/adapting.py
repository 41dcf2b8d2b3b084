"""What is trained on the model: the adapter, and what every trainer needs once it is built."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType
from transformers import PrinterCallback

from modelforge.config.method import Head
from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig

_TASKS: dict[Head, TaskType] = {
    "causal": TaskType.CAUSAL_LM,
    "seq2seq": TaskType.SEQ_2_SEQ_LM,
    "span": TaskType.QUESTION_ANS,
    "reward": TaskType.SEQ_CLS,
}


def adapter(config: TrainingConfig, plan: Plan, head: Head = "causal") -> LoraConfig | None:
    """Return the adapter's shape, or None when every weight is trained."""
    if plan.trains == "all":
        return None
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        bias="none",
        task_type=_TASKS[head],
        revision=plan.model_revision,
    )


def missing_adapter(
    model: Any, config: TrainingConfig, plan: Plan, head: Head = "causal"
) -> LoraConfig | None:
    """Return the adapter that a trainer is still to put on `model`.

    None when every weight is trained, and when the provider has put one on already.
    """
    return None if isinstance(model, PeftModel) else adapter(config, plan, head)


def ready(trainer: Any) -> Any:
    """Return the trainer with what is trained in 32 bits, and without a printer of its own."""
    trainer.remove_callback(PrinterCallback)
    # TRL 1.14 casts adapters on quantized weights to bf16: fp16's scaler fails on that, and small
    # updates are lost in it. PEFT itself keeps adapters in 32 bits, and so do we.
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return trainer
