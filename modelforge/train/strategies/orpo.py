"""ORPO with TRL's ORPOTrainer: preference optimization without a reference model."""

from __future__ import annotations

from typing import Any

from peft import get_peft_model
from torch.nn.functional import cross_entropy
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from modelforge.modeling.adapters.lora import load_start_adapter, missing_lora_config
from modelforge.modeling.tokenize.dataset import Tokenized
from modelforge.modeling.tokenize.encode import IGNORE_INDEX
from modelforge.modeling.tokenize.options import TokenizeOptions
from modelforge.modeling.tokenize.preference import PreferencePair, tokenize_pairs, without_split
from modelforge.train.job import Job, WorkerContext
from modelforge.train.strategies import preference
from modelforge.train.strategies.preference import Reference
from modelforge.train.trainer.arguments import common_arguments, make_trainer
from modelforge.train.trainer.checkpointing import CheckpointMixin
from modelforge.train.trainer.oom_recovery import OomRecoveryMixin

_COLUMNS = [
    "length",
    *(
        f"{side}_{part}"
        for side in ("chosen", "rejected")
        for part in ("input_ids", "attention_mask", "labels")
    ),
]


class OrpoTrainer(OomRecoveryMixin, CheckpointMixin, ORPOTrainer):
    """TRL's ORPOTrainer for rows that are tokenized already, with a loss on completions only."""

    def __init__(self, *args: Any, options: TokenizeOptions, **kwargs: Any) -> None:
        self._options = options
        self.tokens_read = 0
        super().__init__(*args, **kwargs)

    def tokenize_row(self, feature: dict[str, Any], _model: Any = None) -> dict[str, list[int]]:
        """Return prompt and completion of both sides, truncated, with the columns TRL expects."""
        pair = PreferencePair(feature["prompt_ids"], feature["chosen_ids"], feature["rejected_ids"])
        columns: dict[str, list[int]] = {}
        for name, side in zip(("chosen", "rejected"), pair.sides, strict=True):
            (example,) = self._options.truncate(side)
            columns |= {
                f"{name}_input_ids": example.input_ids,
                f"{name}_attention_mask": [1] * len(example.input_ids),
                f"{name}_labels": example.labels,
            }
        return columns

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> Any:
        """Return TRL's outputs with the loss on the completion only, as in the ORPO paper.

        TRL computes it on prompt and completion. `batch["chosen_labels"]`: (batch, seq) int64,
        -100 where not trained; the logits are (2 * batch, seq - 1, vocab), or shorter.
        """
        outputs = super().concatenated_forward(model, batch)
        logits, labels = outputs[2], batch["chosen_labels"][:, 1:]
        aligned = logits[:, : labels.shape[1]].flatten(0, 1)
        nll = cross_entropy(aligned.float(), labels.flatten(), ignore_index=IGNORE_INDEX)
        # This is a mean over tokens beside a mean over rows, so a microbatch has two shares.
        nll = nll * (self.microbatch.token_share / self.microbatch.row_share)
        return (*outputs[:4], nll, *outputs[5:])

    def get_batch_loss_metrics(self, model: Any, batch: Any, train_eval: Any = "train") -> Any:
        """Count the tokens read, which TRL does not do in this trainer."""
        if train_eval == "train":
            masks = (batch[f"{side}_attention_mask"] for side in ("chosen", "rejected"))
            self.tokens_read += sum(int(mask.sum()) for mask in masks)
        return super().get_batch_loss_metrics(model, batch, train_eval)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the number of tokens read so far."""
        if "loss" in logs:
            logs["num_tokens"] = self.tokens_read
        super().log(logs, start_time)


def run(context: WorkerContext) -> None:
    """Do a whole run: load, tokenize the pairs, train, save."""
    preference.run(context, tokenize_pairs, build_trainer, needs_reference=False)


def build_trainer(job: Job, loaded: Any, rows: Tokenized, _reference: Reference) -> Any:
    """Return a trainer with the adapter on the model."""
    config, plan = job.config, job.plan
    args = ORPOConfig(
        **common_arguments(job, evaluates=rows.eval is not None),
        max_length=plan.max_length,
        beta=config.trainer.preference_beta,
    )
    model = load_start_adapter(loaded.model, config, plan)
    lora = missing_lora_config(model, config, plan)
    # TRL would convert all weights that are not quantized to float32 to add the adapter.
    model = get_peft_model(model, lora) if lora else model
    options = without_split(TokenizeOptions.from_plan(config, plan))
    trainer = make_trainer(OrpoTrainer, job, loaded, rows, args, model=model, options=options)
    trainer.train_dataset = trainer.train_dataset.select_columns(_COLUMNS)
    if rows.eval is not None:
        trainer.eval_dataset = trainer.eval_dataset.select_columns(_COLUMNS)
    return trainer
