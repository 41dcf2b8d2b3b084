"""Learning from single answers marked good or bad by TRL's KTOTrainer; pairs are taken apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import prepare_trainer
from modelforge.modeling.tokenize.preference import tokenize_unpaired
from modelforge.train.job import WorkerContext
from modelforge.train.strategies import preference
from modelforge.train.strategies.preference import Asking, Parts, adapted, remember
from modelforge.train.trainer.arguments import shared, within
from modelforge.train.trainer.checkpointing import CheckpointMixin

# An answer needs another beside it, to tell how far the model has strayed from all answers alike.
FEWEST = 2


class Trainer(CheckpointMixin, Asking, KTOTrainer):
    """TRL's trainer for rows that are tokens already."""

    def _prepare_dataset(
        self, dataset: Dataset, _tokenizer: Any, args: KTOConfig, _name: str
    ) -> Dataset:
        """Give each row the answer of its neighbour in the batch, as TRL's own preparation does."""
        batch = args.per_device_train_batch_size
        return dataset.map(_neighbours, batched=True, batch_size=batch, keep_in_memory=True)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the margin over all batches: TRL has it only for those with good and bad answers."""
        measured = self._metrics["train" if self.model.training else "eval"]
        better, worse = (measured.get(f"rewards/{side}") for side in ("chosen", "rejected"))
        if better and worse:
            measured["rewards/margins"] = [sum(better) / len(better) - sum(worse) / len(worse)]
        super().log(logs, start_time)


def run(context: WorkerContext) -> None:
    """Do the whole of a run: load, turn answers into tokens, train, save."""
    config = context.job.config
    if config.per_device_train_batch_size < FEWEST:
        batch, accumulation = batches(config)
        text = (
            f"kto holds every answer against another of its batch: {batch} are taken at once, "
            f"{accumulation} times for an update."
        )
        context.log.note("batch-raised", text)
    preference.run(context, tokenize_unpaired, build)


def build(parts: Parts) -> Any:
    """Return a trainer with the adapter on the model."""
    job = parts.job
    config, plan = job.config, job.plan
    evaluates = parts.held_out is not None
    model, shape = adapted(parts.model, config, plan)
    trainer = Trainer(
        heard=parts.heard,
        model=model,
        ref_model=parts.reference,
        args=arguments(config, plan, job.run.checkpoints, len(parts.train), evaluates=evaluates),
        data_collator=collator(plan, parts.tokenizer.pad_token_id),
        train_dataset=parts.train,
        eval_dataset=parts.held_out,
        processing_class=parts.tokenizer,
        peft_config=shape,
    )
    return remember(prepare_trainer(trainer, config, plan))


def collator(plan: Plan, pad: int) -> DataCollatorForUnpairedPreference:
    """Return what lays answers out as a batch; it cuts only the answers of neighbours."""
    return DataCollatorForUnpairedPreference(pad_token_id=pad, max_length=plan.max_length)


def batches(config: TrainingConfig) -> tuple[int, int]:
    """Return how many answers are taken at once and how often for an update, as near as can be."""
    batch, times = config.per_device_train_batch_size, config.gradient_accumulation_steps
    if batch >= FEWEST:
        return batch, times
    return FEWEST, max(1, times * batch // FEWEST)


def arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, rows: int, *, evaluates: bool
) -> KTOConfig:
    """Return the settings as TRL takes them, for that many `rows` to train on."""
    settings = shared(config, plan, checkpoints, evaluates=evaluates)
    batch, times = batches(config)
    updates = math.ceil(math.ceil(rows / batch) / times) * config.num_train_epochs
    settings |= {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": times,
        **within(settings, config.max_steps if config.max_steps > 0 else updates),
    }
    return KTOConfig(
        **settings,
        # Any other order would part an answer from the neighbour it was given.
        train_sampling_strategy="sequential",
        max_length=plan.max_length,
        beta=config.trainer.preference_beta,
        precompute_ref_log_probs=config.trainer.precompute_ref_log_probs,
    )


def _neighbours(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    answers = rows["completion_ids"]
    return {"KL_completion_ids": [answers[-1], *answers[:-1]]}
