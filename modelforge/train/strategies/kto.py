"""KTO with TRL's KTOTrainer: single completions labelled good or bad; pairs are taken apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from modelforge.config.methods import METHOD_FACTS
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import prepare_trainer
from modelforge.modeling.tokenize.preference import tokenize_unpaired
from modelforge.train.job import WorkerContext
from modelforge.train.strategies import preference
from modelforge.train.strategies.preference import (
    ReferenceProgressMixin,
    TrainerInputs,
    copy_reference_adapter,
    with_reference_adapter,
)
from modelforge.train.trainer.arguments import cap_intervals, common_arguments
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.private import step_metrics
from modelforge.train.trainer.trl_private import PretokenizedMixin

# The KL estimate of a prompt uses the completion of another row of the batch.
MIN_BATCH = METHOD_FACTS["kto"].min_rows


class KtoTrainer(CheckpointMixin, ReferenceProgressMixin, PretokenizedMixin, KTOTrainer):
    """TRL's KTOTrainer for rows that are tokenized already."""

    def prepare_rows(self, rows: Dataset, batch_size: int) -> Dataset:
        """Add each row's neighbour in the batch for the KL estimate, as TRL's preparation does."""
        return rows.map(
            _add_kl_completions, batched=True, batch_size=batch_size, keep_in_memory=True
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the margin over all batches; TRL only counts batches with both kinds of labels."""
        metrics = step_metrics(self, "train" if self.model.training else "eval")
        chosen, rejected = (metrics.get(f"rewards/{side}") for side in ("chosen", "rejected"))
        if chosen and rejected:
            margin = sum(chosen) / len(chosen) - sum(rejected) / len(rejected)
            metrics["rewards/margins"] = [margin]
        super().log(logs, start_time)


def run(context: WorkerContext) -> None:
    """Do a whole run: load, tokenize the completions, train, save."""
    config = context.job.config
    if config.per_device_train_batch_size < MIN_BATCH:
        batch, accumulation = batch_and_accumulation(config)
        text = (
            f"KTO needs at least {MIN_BATCH} rows per batch: the batch size is {batch} and "
            f"gradient accumulation {accumulation}."
        )
        context.log.note("batch-raised", text)
    preference.run(context, tokenize_unpaired, build_trainer)


def build_trainer(inputs: TrainerInputs) -> Any:
    """Return a trainer with the adapter on the model."""
    config, plan = inputs.job.config, inputs.job.plan
    model, lora = with_reference_adapter(inputs.model, config, plan)
    trainer = KtoTrainer(
        on_reference_batch=inputs.on_reference_batch,
        model=model,
        ref_model=inputs.reference,
        args=training_arguments(
            config,
            plan,
            inputs.job.run.checkpoints,
            len(inputs.train),
            evaluates=inputs.eval is not None,
        ),
        data_collator=collator(plan, inputs.tokenizer.pad_token_id),
        train_dataset=inputs.train,
        eval_dataset=inputs.eval,
        processing_class=inputs.tokenizer,
        peft_config=lora,
    )
    return copy_reference_adapter(prepare_trainer(trainer, config, plan))


def collator(plan: Plan, pad_id: int) -> DataCollatorForUnpairedPreference:
    """Return the data collator; it truncates the KL completions only."""
    return DataCollatorForUnpairedPreference(pad_token_id=pad_id, max_length=plan.max_length)


def batch_and_accumulation(config: TrainingConfig) -> tuple[int, int]:
    """Return batch size and accumulation, with a batch of at least two rows."""
    batch, accumulation = config.per_device_train_batch_size, config.gradient_accumulation_steps
    if batch >= MIN_BATCH:
        return batch, accumulation
    return MIN_BATCH, max(1, accumulation * batch // MIN_BATCH)


def training_arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, rows: int, *, evaluates: bool
) -> KTOConfig:
    """Return the arguments of TRL's trainer for `rows` training rows."""
    arguments = common_arguments(config, plan, checkpoints, evaluates=evaluates)
    batch, accumulation = batch_and_accumulation(config)
    steps = math.ceil(math.ceil(rows / batch) / accumulation) * config.num_train_epochs
    arguments |= {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        **cap_intervals(arguments, config.max_steps if config.max_steps > 0 else steps),
    }
    return KTOConfig(
        **arguments,
        # In another order a row would be in another batch than its KL completion.
        train_sampling_strategy="sequential",
        max_length=plan.max_length,
        beta=config.trainer.preference_beta,
        precompute_ref_log_probs=config.trainer.precompute_ref_log_probs,
    )


def _add_kl_completions(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    completions = rows["completion_ids"]
    return {"KL_completion_ids": [completions[-1], *completions[:-1]]}
