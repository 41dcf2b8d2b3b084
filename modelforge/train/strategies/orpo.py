"""Learning an answer and what to avoid at once by TRL's ORPOTrainer, without a reference model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import get_peft_model
from torch.nn.functional import cross_entropy
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.modeling.adapters.lora import missing_lora_config, prepare_trainer
from modelforge.modeling.tokenize.encode import IGNORE_INDEX
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import PreferencePair, tokenize_pairs, without_split
from modelforge.train.job import WorkerContext
from modelforge.train.strategies import preference
from modelforge.train.strategies.preference import Parts
from modelforge.train.trainer.arguments import shared
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin

_COLUMNS = [
    f"{side}_{part}"
    for side in ("chosen", "rejected")
    for part in ("input_ids", "attention_mask", "labels")
]


class Trainer(OomRecoveryMixin, CheckpointMixin, ORPOTrainer):
    """TRL's trainer for rows that are tokens already; only answers are learned, as shown."""

    def __init__(self, *args: Any, manner: TokenizeOptions, **more: Any) -> None:
        self._manner = manner
        self._read = 0
        super().__init__(*args, **more)

    def tokenize_row(self, feature: dict[str, Any], _model: Any = None) -> dict[str, list[int]]:
        """Return both answers behind their question, cut, as TRL's collator takes them."""
        pair = PreferencePair(feature["prompt_ids"], feature["chosen_ids"], feature["rejected_ids"])
        columns: dict[str, list[int]] = {}
        for name, side in zip(("chosen", "rejected"), pair.sides, strict=True):
            (piece,) = self._manner.truncate(side)
            columns |= {
                f"{name}_input_ids": piece.input_ids,
                f"{name}_attention_mask": [1] * len(piece.input_ids),
                f"{name}_labels": piece.labels,
            }
        return columns

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> Any:
        """Return what TRL does, with the loss on the answer alone, which is the paper's formula.

        TRL takes the loss on question and answer.
        """
        found = super().concatenated_forward(model, batch)
        logits, labels = found[2], batch["chosen_labels"][:, 1:]
        kept = logits[:, : labels.shape[1]].flatten(0, 1)
        answer = cross_entropy(kept.float(), labels.flatten(), ignore_index=IGNORE_INDEX)
        # A mean over tokens beside one over rows: a piece of a batch has a share of each.
        answer = answer * (self.piece.tokens / self.piece.rows)
        return (*found[:4], answer, *found[5:])

    def get_batch_loss_metrics(self, model: Any, batch: Any, train_eval: Any = "train") -> Any:
        """Count the tokens that are read, which TRL does not for this trainer."""
        if train_eval == "train":
            masks = (batch[f"{side}_attention_mask"] for side in ("chosen", "rejected"))
            self._read += sum(int(mask.sum()) for mask in masks)
        return super().get_batch_loss_metrics(model, batch, train_eval)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Say how many tokens were read so far."""
        if "loss" in logs:
            logs["num_tokens"] = self._read
        super().log(logs, start_time)


def run(context: WorkerContext) -> None:
    """Do the whole of a run: load, turn pairs into tokens, train, save."""
    preference.run(context, tokenize_pairs, build, compares=False)


def build(parts: Parts) -> Any:
    """Return a trainer with the adapter on the model."""
    job = parts.job
    config, plan = job.config, job.plan
    shape = missing_lora_config(parts.model, config, plan)
    # TRL would put the adapter on itself, and keep all that is not quantized in 32 bits for it.
    model = get_peft_model(parts.model, shape) if shape else parts.model
    trainer = Trainer(
        manner=without_split(TokenizeOptions.from_plan(config, plan)),
        model=model,
        args=arguments(config, plan, job.run.checkpoints, evaluates=parts.held_out is not None),
        train_dataset=parts.train,
        eval_dataset=parts.held_out,
        processing_class=parts.tokenizer,
    )
    trainer.train_dataset = _lean(trainer.train_dataset)
    if parts.held_out is not None:
        trainer.eval_dataset = _lean(trainer.eval_dataset)
    return prepare_trainer(trainer, config, plan)


def arguments(
    config: TrainingConfig, plan: Plan, checkpoints: Path, *, evaluates: bool
) -> ORPOConfig:
    """Return the settings as TRL takes them."""
    return ORPOConfig(
        **shared(config, plan, checkpoints, evaluates=evaluates),
        train_sampling_strategy="group_by_length" if plan.group_by_length else "random",
        max_length=plan.max_length,
        beta=config.trainer.preference_beta,
    )


def _lean(rows: Dataset) -> Dataset:
    return rows.select_columns([*_COLUMNS, "length"])
