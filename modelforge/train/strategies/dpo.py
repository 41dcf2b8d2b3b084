"""Direct preference optimization with TRL's DPOTrainer, with any of its losses."""

from __future__ import annotations

from typing import Any

from trl import DPOConfig, DPOTrainer

from modelforge.modeling.tokenize.dataset import Tokenized
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import pair_collator, tokenize_pairs, without_split
from modelforge.train.job import Job, WorkerContext
from modelforge.train.strategies import preference
from modelforge.train.strategies.preference import Reference, ReferenceProgressMixin
from modelforge.train.trainer.arguments import common_arguments
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin
from modelforge.train.trainer.private import PretokenizedMixin

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


def build_trainer(job: Job, loaded: Any, rows: Tokenized, reference: Reference) -> Any:
    """Return a trainer with the adapter on the model."""
    config, plan = job.config, job.plan
    loss = config.trainer.preference_loss
    args = DPOConfig(
        **common_arguments(job, evaluates=rows.eval is not None),
        max_length=plan.max_length,
        beta=config.trainer.preference_beta,
        loss_type=[loss],
        label_smoothing=LABEL_SMOOTHING.get(loss, 0.0),
        precompute_ref_log_probs=config.trainer.precompute_ref_log_probs,
    )
    options = without_split(TokenizeOptions.from_plan(config, plan))
    # TRL's own collator does the same, but warns when rows are truncated on the left.
    collator = pair_collator(options, loaded.tokenizer.pad_token_id)
    trainer = preference.make_trainer_with_reference(
        DpoTrainer, job, loaded, rows, args, reference, collator
    )
    trainer.is_indivisible = loss in SORTING_LOSSES
    return trainer
