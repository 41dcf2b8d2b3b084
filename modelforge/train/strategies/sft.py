"""Learning from answers: a LoRA adapter trained by TRL's SFTTrainer. Also serves qlora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig
from modelforge.errors import Problem
from modelforge.train.collating import row_settings
from modelforge.train.failures import WorkError


class Trainer(SFTTrainer):
    """TRL's trainer without the model card of every checkpoint, which may ask the Hub."""

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """Write nothing; the output has a card of its own."""


def build(
    model: Any,
    tokenizer: Any,
    rows: tuple[Dataset, Dataset | None],
    *,
    config: TrainingConfig,
    plan: Plan,
    checkpoints: Path,
) -> Trainer:
    """Return a trainer with the adapter on the model. `rows` are tokens to train and to check."""
    if plan.precision == "fp16" and plan.device == "cpu":
        raise WorkError("fp16-needs-gpu", _no_fp16())
    train, held_out = rows
    trainer = Trainer(
        model=model,
        args=arguments(config, plan, checkpoints, evaluates=held_out is not None),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=adapter(config, plan),
    )
    trainer.remove_callback(PrinterCallback)
    # TRL 1.14 casts adapters on quantized weights to bf16: fp16's scaler fails on that, and small
    # updates are lost in it. PEFT itself keeps adapters in 32 bits, and so do we.
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return trainer


def take_best(trainer: Trainer) -> None:
    """Put the weights of the best checkpoint back into the model, if one was saved."""
    if trainer.state.best_model_checkpoint is not None:
        trainer._load_best_model()


def adapter(config: TrainingConfig, plan: Plan) -> LoraConfig:
    """Return the adapter's shape: every linear layer but the head."""
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
        revision=plan.model_revision,
    )


def arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> SFTConfig:
    """Return the settings as TRL takes them. Names that changed their home are noted."""
    seed = config.trainer.seed
    return SFTConfig(
        output_dir=str(checkpoints),
        num_train_epochs=config.num_train_epochs,
        max_steps=config.max_steps,
        per_device_train_batch_size=config.per_device_train_batch_size,
        per_device_eval_batch_size=config.per_device_eval_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=plan.optim,
        lr_scheduler_type=plan.lr_scheduler_type,
        lr_scheduler_kwargs=plan.lr_scheduler_kwargs,
        warmup_steps=plan.warmup_steps,  # below 1 a share, as warmup_ratio once was
        fp16=plan.precision == "fp16",
        bf16=plan.precision == "bf16",  # said also when false: TRL would switch it on
        use_cpu=plan.device == "cpu",
        seed=seed,
        data_seed=seed,
        logging_strategy="steps",
        logging_steps=config.logging.logging_steps,
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=plan.device == "cuda",
        prediction_loss_only=True,
        **row_settings(config, plan),
        **_checks(config, plan, evaluates=evaluates),
    )


def _checks(config: TrainingConfig, plan: Plan, *, evaluates: bool) -> dict[str, Any]:
    every = plan.eval_steps or config.eval_steps
    return {
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": every if evaluates else None,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
        "load_best_model_at_end": evaluates,
    }


def _no_fp16() -> Problem:
    return Problem(
        "fp16",
        "Training in fp16 needs a GPU; this run uses the CPU.",
        "Choose bf16, or leave both fp16 and bf16 off.",
    )
