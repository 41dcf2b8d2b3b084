"""Collate and pack examples as TRL does in training, and configure TRL for tokenized rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from trl import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from modelforge.config.plan.make import Plan
from modelforge.config.plan.weights import POSITION_PACKING
from modelforge.config.schema.config import TrainingConfig


def sft_data_arguments(config: TrainingConfig, plan: Plan) -> dict[str, Any]:
    """Return the arguments of SFTConfig for rows that are tokenized, labelled and truncated."""
    padding_free_only = config.data.padding_free and not config.packing
    return {
        # TRL refuses max_length with padding_free alone.
        "max_length": None if padding_free_only else plan.max_length,
        "packing": config.packing,
        "packing_strategy": config.data.packing_strategy,
        "padding_free": config.data.padding_free,
        "eval_packing": False,
        # Only packing is left to TRL.
        "dataset_kwargs": {"skip_prepare_dataset": not config.packing},
    }


def pack(rows: Dataset, arguments: dict[str, Any]) -> Dataset:
    """Return the rows packed as the trainer packs them."""
    return pack_dataset(rows, arguments["max_length"], arguments["packing_strategy"])


@dataclass(frozen=True)
class LeftPadded:
    """Collates a batch with another collator, and moves its padding to the left."""

    collate: Any

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch with `position_ids`, which count from the first token of each row.

        Tensors of shape (batch, seq) are moved; a batch without padding is returned unchanged.
        """
        batch: dict[str, Any] = self.collate(rows)
        mask = batch.get("attention_mask")
        if mask is None:
            return batch
        width = mask.shape[1]
        padding = width - mask.sum(dim=1, keepdim=True)
        source = (torch.arange(width)[None] - padding) % width
        moved = {
            name: value.gather(1, source) if value.shape == mask.shape else value
            for name, value in batch.items()
        }
        positions = (moved["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        return {**moved, "position_ids": positions}


def collate(rows: Sequence[dict[str, Any]], arguments: dict[str, Any], pad: int) -> dict[str, Any]:
    """Return the trainer's batch of rows with `input_ids` and `labels`.

    Returns:
        `input_ids`, `labels` and `attention_mask`, each (batch, seq) int64, padded on the right.
        Without padding, (1, tokens) and `position_ids` instead of `attention_mask`.
    """
    packs = arguments["packing"] and arguments["packing_strategy"] in POSITION_PACKING
    collator = DataCollatorForLanguageModeling(
        pad_token_id=pad, padding_free=arguments["padding_free"] or packs
    )
    batch: dict[str, Any] = collator(list(rows))
    return batch
