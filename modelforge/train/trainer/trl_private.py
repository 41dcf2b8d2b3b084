"""Overrides of private methods and constants of TRL, listed in `private.PRIVATE_NAMES`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from datasets import Dataset
from trl.trainer import sft_trainer

from modelforge.train.trainer.host import TrainerHost
from modelforge.train.trainer.private import step_metrics


@contextmanager
def sft_loss_chunk(size: int) -> Iterator[None]:
    """Let SFTTrainers that are constructed inside compute the loss over `size` tokens at a time.

    The constructor reads a module constant of TRL; there is no argument for it.
    """
    before = sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE
    sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE = size
    try:
        yield
    finally:
        sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE = before


def chunk_lm_head_loss(model: Any, size: int) -> None:
    """Patch `forward` to compute the loss over `size` trained tokens at a time, as SFT does."""
    sft_trainer._patch_chunked_ce_lm_head(model, chunk_size=size)


class PretokenizedMixin(TrainerHost):
    """Skips TRL's own preparation of the dataset, for rows that are tokenized already.

    `extra_columns` are kept beside those that TRL reads.
    """

    extra_columns: tuple[str, ...] = ()
    _signature_columns: list[str]

    def prepare_rows(self, rows: Dataset, _batch_size: int) -> Dataset:
        """Return the rows to train on."""
        return rows

    def _prepare_dataset(
        self, dataset: Dataset, _tokenizer: Any, args: Any, _name: str, *_rest: Any
    ) -> Dataset:
        return self.prepare_rows(dataset, args.per_device_train_batch_size)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        for column in self.extra_columns:
            if column not in self._signature_columns:
                self._signature_columns.append(column)


class RenderedPromptsMixin(TrainerHost):
    """For RLOO and GRPO with prompts that the chat template was already applied to."""

    tokens_generated = 0
    num_generations: int

    def on_completions(
        self, inputs: list[dict[str, Any]], completions: list[str], rewards: list[float]
    ) -> None:
        """Receive the completions of a training batch with their rewards."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return self.processing_class(prompts, add_special_tokens=False)["input_ids"], None, {}

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[str],
        completions: list[str],
        completion_ids: list[list[int]],
    ) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        if self.model.training:
            self.tokens_generated += sum(len(ids) for ids in completion_ids)
            step_metrics(self, "train")["num_tokens"] = [self.tokens_generated]
            self.on_completions(inputs, completions, [float(row[0]) for row in rewards])
        return rewards
