"""Learning from answers by TRL's SFTTrainer, on an adapter or on all weights; also qlora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import set_seed
from trl import SFTConfig, SFTTrainer
from trl.trainer import sft_trainer

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import (
    load_start_adapter,
    missing_lora_config,
    prepare_trainer,
)
from modelforge.modeling.perplexity import PerplexityMeter, count_text_bytes
from modelforge.modeling.tokenize.collate import sft_data_arguments
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.train import generate, loop
from modelforge.train.generate import chat_generation
from modelforge.train.job import WorkerContext
from modelforge.train.trainer.arguments import shared
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin

HEAD = "causal"


class Trainer(OomRecoveryMixin, CheckpointMixin, SFTTrainer):
    """TRL's trainer, which also measures what held-out text costs the model."""

    by_tokens = True

    likelihood: PerplexityMeter | None = None

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Check one batch, and add what it cost."""
        labels = inputs["labels"]
        found = super().prediction_step(model, inputs, *args, **kwargs)
        if self.likelihood is not None:
            self.likelihood.add(float(found[0]), labels)
        return found

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Check all held-out rows, and say what they cost beside the loss."""
        if self.likelihood is None:
            return super().evaluation_loop(*args, **kwargs)
        self.likelihood.reset()
        found = super().evaluation_loop(*args, **kwargs)
        measured = self.likelihood.metrics.items()
        found.metrics.update({f"eval_{name}": value for name, value in measured})
        return found


def run(context: WorkerContext) -> None:
    """Do the whole of a run: load, turn rows into tokens, train, save."""
    loaded = context.load(HEAD)
    dialect = loop.chat_template_for(context, loaded)
    tokenized = loop.tokenize(context, dialect)
    context.stop.check()
    set_seed(context.job.config.trainer.seed)
    trainer = build(
        load_start_adapter(loaded.model, context.job.config, context.job.plan),
        loaded.tokenizer,
        (tokenized.train, tokenized.eval),
        config=context.job.config,
        plan=context.job.plan,
        checkpoints=context.job.run.checkpoints,
    )
    manner = TokenizeOptions.from_plan(context.job.config, context.job.plan)
    if tokenized.eval is not None:
        size = count_text_bytes(tokenized.eval["labels"], loaded.tokenizer)
        trainer.likelihood = PerplexityMeter(size)
    score = generate.make_evaluator(
        context, trainer, tokenized.eval_rows, chat_generation(dialect, manner)
    )
    loop.learn(context, trainer, loop.token_counts(tokenized), score)


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
    train, held_out = rows
    # TRL 1.14 reads it as the trainer is built, and has no argument for it.
    sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE = plan.loss_piece
    trainer = Trainer(
        model=model,
        args=arguments(config, plan, checkpoints, evaluates=held_out is not None),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=missing_lora_config(model, config, plan),
    )
    made: Trainer = prepare_trainer(trainer, config, plan)
    return made


def arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> SFTConfig:
    """Return the settings as TRL takes them."""
    return SFTConfig(
        **shared(config, plan, checkpoints, evaluates=evaluates),
        **sft_data_arguments(config, plan),
        prediction_loss_only=True,
        # TRL counts them in its loss, which a provider may put another in place of.
        include_num_input_tokens_seen="non_padding",
    )
