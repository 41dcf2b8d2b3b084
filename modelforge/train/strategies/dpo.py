"""Learning which of two answers is better by TRL's DPOTrainer, with any of its losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import prepare_trainer
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import pair_collator, tokenize_pairs, without_split
from modelforge.train.job import WorkerContext
from modelforge.train.strategies import preference
from modelforge.train.strategies.preference import Asking, Parts, adapted, remember
from modelforge.train.trainer.arguments import shared
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin

# These sort the pairs of a batch against each other, so a part of one is something else.
SORTED = ("aot", "aot_unpaired")
# How often a pair is taken to be the wrong way round. exo_pair cannot do with none, and its paper
# has this; robust without any would be sigmoid.
SMOOTHING = {"exo_pair": 1e-3, "robust": 0.1}


class Trainer(OomRecoveryMixin, CheckpointMixin, Asking, DPOTrainer):
    """TRL's trainer for rows that are tokens already."""

    sides = 2

    def _prepare_dataset(self, dataset: Dataset, *_args: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        # Other columns are gone before rows of similar length are looked for.
        if "length" not in self._signature_columns:
            self._signature_columns.append("length")


def run(context: WorkerContext) -> None:
    """Do the whole of a run: load, turn pairs into tokens, train, save."""
    preference.run(context, tokenize_pairs, build)


def build(parts: Parts) -> Any:
    """Return a trainer with the adapter on the model."""
    job = parts.job
    config, plan = job.config, job.plan
    manner = without_split(TokenizeOptions.from_plan(config, plan))
    evaluates = parts.held_out is not None
    model, shape = adapted(parts.model, config, plan)
    trainer = Trainer(
        heard=parts.heard,
        model=model,
        ref_model=parts.reference,
        args=arguments(config, plan, job.run.checkpoints, evaluates=evaluates),
        # TRL's own would do, but warns of cutting from the left.
        data_collator=pair_collator(manner, parts.tokenizer.pad_token_id),
        train_dataset=parts.train,
        eval_dataset=parts.held_out,
        processing_class=parts.tokenizer,
        peft_config=shape,
    )
    trainer.is_whole = config.trainer.preference_loss in SORTED
    return remember(prepare_trainer(trainer, config, plan))


def arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> DPOConfig:
    """Return the settings as TRL takes them."""
    loss = config.trainer.preference_loss
    return DPOConfig(
        **shared(config, plan, checkpoints, evaluates=evaluates),
        train_sampling_strategy="group_by_length" if plan.group_by_length else "random",
        max_length=plan.max_length,
        beta=config.trainer.preference_beta,
        loss_type=[loss],
        label_smoothing=SMOOTHING.get(loss, 0.0),
        precompute_ref_log_probs=config.trainer.precompute_ref_log_probs,
    )
