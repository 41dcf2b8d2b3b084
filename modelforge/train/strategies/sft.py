"""Learning from answers by TRL's SFTTrainer, on an adapter or on all weights; also qlora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from modelforge.config.plan import Plan
from modelforge.config.schema import TrainingConfig
from modelforge.train import training
from modelforge.train.adapting import missing_adapter, ready
from modelforge.train.arguments import shared
from modelforge.train.collating import row_settings
from modelforge.train.job import Work

HEAD = "causal"


class Trainer(SFTTrainer):
    """TRL's trainer without the model card of every checkpoint, which may ask the Hub."""

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """Write nothing; the output has a card of its own."""


def run(work: Work) -> None:
    """Do the whole of a run: load, turn rows into tokens, train, save."""
    loaded = work.load(HEAD)
    tokenized = training.tokenize(work, training.speak(work, loaded))
    work.stop.check()
    set_seed(work.job.config.trainer.seed)
    trainer = build(
        loaded.model,
        loaded.tokenizer,
        (tokenized.train, tokenized.held_out),
        config=work.job.config,
        plan=work.job.plan,
        checkpoints=work.job.run.checkpoints,
    )
    training.learn(work, trainer, training.token_facts(tokenized))


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
    trainer = Trainer(
        model=model,
        args=arguments(config, plan, checkpoints, evaluates=held_out is not None),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=missing_adapter(model, config, plan),
    )
    made: Trainer = ready(trainer)
    return made


def arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> SFTConfig:
    """Return the settings as TRL takes them."""
    return SFTConfig(
        **shared(config, plan, checkpoints, evaluates=evaluates),
        **row_settings(config, plan),
        prediction_loss_only=True,
        # TRL counts them in its loss, which a provider may put another in place of.
        include_num_input_tokens_seen="non_padding",
    )
