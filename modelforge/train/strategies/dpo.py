"""Direct preference optimization with TRL's DPOTrainer, with any of its losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trl import DPOConfig, DPOTrainer

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import prepare_trainer
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import pair_collator, tokenize_pairs, without_split
from modelforge.train.job import WorkerContext
from modelforge.train.strategies import preference
from modelforge.train.strategies.preference import (
    ReferenceProgressMixin,
    TrainerInputs,
    copy_reference_adapter,
    with_reference_adapter,
)
from modelforge.train.trainer.arguments import common_arguments
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin
from modelforge.train.trainer.trl_private import PretokenizedMixin

# These losses sort the pairs of a batch, so splitting the batch would change the loss.
SORTING_LOSSES = ("aot", "aot_unpaired")
# The assumed share of wrong labels. exo_pair is undefined at 0 and its paper uses 1e-3; robust at 0
# would be the same as sigmoid.
LABEL_SMOOTHING = {"exo_pair": 1e-3, "robust": 0.1}


class DpoTrainer(
    OomRecoveryMixin, CheckpointMixin, ReferenceProgressMixin, PretokenizedMixin, DPOTrainer
):
    """TRL's DPOTrainer for rows that are tokenized already."""

    sides = 2
    # Otherwise TRL drops the column before rows are grouped by length.
    extra_columns = ("length",)


def run(context: WorkerContext) -> None:
    """Do a whole run: load, tokenize the pairs, train, save."""
    preference.run(context, tokenize_pairs, build_trainer)


def build_trainer(inputs: TrainerInputs) -> Any:
    """Return a trainer with the adapter on the model."""
    config, plan = inputs.job.config, inputs.job.plan
    options = without_split(TokenizeOptions.from_plan(config, plan))
    evaluates = inputs.eval is not None
    model, lora = with_reference_adapter(inputs.model, config, plan)
    trainer = DpoTrainer(
        on_reference_batch=inputs.on_reference_batch,
        model=model,
        ref_model=inputs.reference,
        args=training_arguments(config, plan, inputs.job.run.checkpoints, evaluates=evaluates),
        # TRL's own collator does the same, but warns when rows are truncated on the left.
        data_collator=pair_collator(options, inputs.tokenizer.pad_token_id),
        train_dataset=inputs.train,
        eval_dataset=inputs.eval,
        processing_class=inputs.tokenizer,
        peft_config=lora,
    )
    trainer.is_indivisible = config.trainer.preference_loss in SORTING_LOSSES
    return copy_reference_adapter(prepare_trainer(trainer, config, plan))


def training_arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> DPOConfig:
    """Return the arguments of TRL's trainer."""
    loss = config.trainer.preference_loss
    return DPOConfig(
        **common_arguments(config, plan, checkpoints, evaluates=evaluates),
        train_sampling_strategy="group_by_length" if plan.group_by_length else "random",
        max_length=plan.max_length,
        beta=config.trainer.preference_beta,
        loss_type=[loss],
        label_smoothing=LABEL_SMOOTHING.get(loss, 0.0),
        precompute_ref_log_probs=config.trainer.precompute_ref_log_probs,
    )
