"""TRL's SFTTrainer with checkpoints, recovery and perplexity, and its rows and arguments."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.perplexity import PerplexityMeter
from modelforge.modeling.tokenize.collate import LeftPadded, pack, sft_data_arguments
from modelforge.modeling.tokenize.dataset import LOSS_WEIGHTS, ROW
from modelforge.runs.progress.evaluation_losses import Batch
from modelforge.train.job import Job
from modelforge.train.trainer.arguments import common_arguments
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.evaluated import EvaluatedBatches
from modelforge.train.trainer.loss_weights import LossWeightMixin, WeightCollator
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin
from modelforge.train.trainer.privacy import PrivacyMixin
from modelforge.train.trainer.row_losses import RowCollator, RowLossMixin, with_row_ids


class SftTrainer(
    PrivacyMixin, LossWeightMixin, RowLossMixin, OomRecoveryMixin, CheckpointMixin, SFTTrainer
):
    """TRL's SFTTrainer that also measures perplexity and bits per byte in evaluations.

    The losses of their batches are kept in `evaluated`, if that is set.
    """

    by_tokens = pads_steps = True
    extra_columns = (*RowLossMixin.extra_columns, LOSS_WEIGHTS)

    perplexity: PerplexityMeter | None = None
    evaluated: EvaluatedBatches | None = None
    _batches: list[Batch]

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch; `inputs["labels"]`: (batch, seq) int64, -100 where not trained."""
        labels = inputs["labels"]
        output = super().prediction_step(model, inputs, *args, **kwargs)
        loss, rows = float(output[0]), len(labels)
        self._batches.append((loss * rows, rows))
        if self.perplexity is not None:
            self.perplexity.add(loss, labels)
        return output

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate all rows, add the perplexity metrics, and keep the losses of the batches."""
        self._batches = []
        if self.perplexity is not None:
            self.perplexity.reset()
        output = super().evaluation_loop(*args, **kwargs)
        if self.perplexity is not None:
            metrics = self.perplexity.metrics.items()
            output.metrics.update({f"eval_{name}": value for name, value in metrics})
        if self.evaluated is not None and self.args.should_save:
            self.evaluated.add(self.state.global_step, self._batches)
        return output


def extend_collator(trainer: Any, config: TrainingConfig) -> None:
    """Let the trainer's batches have the numbers and the weights of their rows, where needed."""
    trainer.data_collator = WeightCollator(RowCollator(trainer.data_collator))
    if config.data.padding_side == "left":
        trainer.data_collator = LeftPadded(trainer.data_collator)


def trained_rows(rows: Dataset, config: TrainingConfig, plan: Plan) -> Dataset:
    """Return the tokenized training rows, packed if configured, with their numbers if needed."""
    if not config.evaluation.row_losses:
        rows = rows.remove_columns(ROW)
    if not config.packing:
        return rows
    rows = with_row_ids(rows) if ROW in rows.column_names else rows
    return pack(rows, sft_data_arguments(config, plan))


def training_arguments(job: Job, *, evaluates: bool) -> SFTConfig:
    """Return the arguments of TRL's trainer."""
    # `trained_rows` packs as TRL would, and keeps the numbers of the rows.
    packed: dict[str, Any] = {"dataset_kwargs": {"skip_prepare_dataset": True}}
    if job.plan.sequence_parallel_size > 1:
        # Each process has two parts of a row, so that all have as much to do.
        packed["pad_to_multiple_of"] = 2 * job.plan.sequence_parallel_size
    return SFTConfig(
        **common_arguments(job, evaluates=evaluates),
        **(sft_data_arguments(job.config, job.plan) | packed),
        prediction_loss_only=True,
        # TRL counts tokens in its loss function, which Unsloth replaces.
        include_num_input_tokens_seen="non_padding",
    )
