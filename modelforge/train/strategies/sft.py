"""Supervised fine-tuning with TRL's SFTTrainer, of an adapter or of all weights; also QLoRA."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import load_start_adapter, missing_lora_config
from modelforge.modeling.generate import chat_generation
from modelforge.modeling.perplexity import PerplexityMeter, count_text_bytes
from modelforge.modeling.tokenize.collate import LeftPadded, pack, sft_data_arguments
from modelforge.modeling.tokenize.dataset import LOSS_WEIGHTS, ROW, Tokenized
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.train import loop
from modelforge.train.callbacks.samples import sample_base
from modelforge.train.job import Job, WorkerContext
from modelforge.train.trainer.arguments import common_arguments, make_trainer
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.chunked_loss import sft_loss_chunk
from modelforge.train.trainer.loss_weights import LossWeightMixin, WeightCollator
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin
from modelforge.train.trainer.privacy import PrivacyMixin
from modelforge.train.trainer.row_losses import RowCollator, RowLossMixin, with_row_ids

HEAD = "causal"


class SftTrainer(
    PrivacyMixin, LossWeightMixin, RowLossMixin, OomRecoveryMixin, CheckpointMixin, SFTTrainer
):
    """TRL's SFTTrainer that also measures perplexity and bits per byte in evaluations."""

    by_tokens = True
    extra_columns = (*RowLossMixin.extra_columns, LOSS_WEIGHTS)

    perplexity: PerplexityMeter | None = None

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch; `inputs["labels"]`: (batch, seq) int64, -100 where not trained."""
        labels = inputs["labels"]
        output = super().prediction_step(model, inputs, *args, **kwargs)
        if self.perplexity is not None:
            self.perplexity.add(float(output[0]), labels)
        return output

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate all rows and add the perplexity metrics."""
        if self.perplexity is None:
            return super().evaluation_loop(*args, **kwargs)
        self.perplexity.reset()
        output = super().evaluation_loop(*args, **kwargs)
        metrics = self.perplexity.metrics.items()
        output.metrics.update({f"eval_{name}": value for name, value in metrics})
        return output


def run(context: WorkerContext) -> None:
    """Do a whole run: load, tokenize, train, save."""
    job = context.job
    loaded = context.load(HEAD)
    template = loop.chat_template_for(context, loaded.tokenizer, loaded.model.generation_config)
    tokenized = loop.tokenize(context, template)
    context.stop.check()
    sampler = sample_base(context, loaded.model, tokenized.eval_rows, template)
    set_seed(job.config.trainer.seed)
    trainer = build_trainer(job, loaded, tokenized)
    if tokenized.eval is not None:
        size = count_text_bytes(tokenized.eval["labels"], loaded.tokenizer)
        trainer.perplexity = PerplexityMeter(size)
    setup = chat_generation(template, TokenizeOptions.from_plan(job.config, job.plan))
    evaluator = loop.generation_evaluator(context, trainer, tokenized.eval_rows, setup)
    loop.train_and_finish(context, trainer, loop.token_counts(tokenized), evaluator, sampler)


def build_trainer(job: Job, loaded: Any, rows: Tokenized) -> SftTrainer:
    """Return a trainer for tokenized rows; TRL adds the adapter."""
    config, plan = job.config, job.plan
    args = training_arguments(job, evaluates=rows.eval is not None)
    rows = replace(rows, train=trained_rows(rows.train, config, plan))
    model = load_start_adapter(loaded.model, config, plan)
    lora = missing_lora_config(model, config, plan)
    with sft_loss_chunk(plan.loss_piece):
        trainer: SftTrainer = make_trainer(
            SftTrainer, job, loaded, rows, args, model=model, peft_config=lora
        )
    trainer.data_collator = WeightCollator(RowCollator(trainer.data_collator))
    if config.data.padding_side == "left":
        trainer.data_collator = LeftPadded(trainer.data_collator)
    return trainer


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
    packed = {"dataset_kwargs": {"skip_prepare_dataset": True}}
    return SFTConfig(
        **common_arguments(job, evaluates=evaluates),
        **(sft_data_arguments(job.config, job.plan) | packed),
        prediction_loss_only=True,
        # TRL counts tokens in its loss function, which Unsloth replaces.
        include_num_input_tokens_seen="non_padding",
    )
