"""KTO with TRL's KTOTrainer: single completions labelled good or bad; pairs are taken apart."""

from __future__ import annotations

import math
from typing import Any

from datasets import Dataset
from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from modelforge.config.methods import METHOD_FACTS
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.tokenize.dataset import Tokenized
from modelforge.modeling.tokenize.preference import tokenize_unpaired
from modelforge.train.job import Job, WorkerContext
from modelforge.train.strategies import preference
from modelforge.train.strategies.preference import Reference, ReferenceProgressMixin
from modelforge.train.trainer.arguments import cap_intervals, common_arguments, known_steps
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.private import PretokenizedMixin, step_metrics

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


def build_trainer(job: Job, loaded: Any, rows: Tokenized, reference: Reference) -> Any:
    """Return a trainer with the adapter on the model."""
    config, plan = job.config, job.plan
    arguments = common_arguments(job, evaluates=rows.eval is not None)
    batch, accumulation = batch_and_accumulation(config)
    steps = math.ceil(math.ceil(len(rows.train) / batch) / accumulation) * config.num_train_epochs
    arguments |= {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        **cap_intervals(arguments, known_steps(job, steps)),
        # In another order a row would be in another batch than its KL completion.
        "train_sampling_strategy": "sequential",
    }
    args = KTOConfig(
        **arguments,
        max_length=plan.max_length,
        beta=config.trainer.preference_beta,
        precompute_ref_log_probs=config.trainer.precompute_ref_log_probs,
    )
    # It truncates the KL completions only.
    collator = DataCollatorForUnpairedPreference(
        pad_token_id=loaded.tokenizer.pad_token_id, max_length=plan.max_length
    )
    return preference.make_trainer_with_reference(
        KtoTrainer, job, loaded, rows, args, reference, collator
    )


def batch_and_accumulation(config: TrainingConfig) -> tuple[int, int]:
    """Return batch size and accumulation, with a batch of at least two rows."""
    batch, accumulation = config.per_device_train_batch_size, config.gradient_accumulation_steps
    if batch >= MIN_BATCH:
        return batch, accumulation
    return MIN_BATCH, max(1, accumulation * batch // MIN_BATCH)


def _add_kl_completions(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    completions = rows["completion_ids"]
    return {"KL_completion_ids": [completions[-1], *completions[:-1]]}
