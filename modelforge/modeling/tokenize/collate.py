"""What TRL is told about rows, and the same done by hand: packing, and laying out a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig

# These lay rows end to end and tell them apart by their positions, as padding-free batches do.
END_TO_END = ("bfd", "bfd_split")


def sft_data_arguments(config: TrainingConfig, plan: Plan) -> dict[str, Any]:
    """Return the settings of SFTConfig about rows. They come tokenized, labelled and cut."""
    bare = config.data.padding_free and not config.packing
    return {
        "train_sampling_strategy": "group_by_length" if plan.group_by_length else "random",
        # TRL itself cuts nothing in batches without padding, and refuses to be told to.
        "max_length": None if bare else plan.max_length,
        "packing": config.packing,
        "packing_strategy": config.data.packing_strategy,
        "padding_free": config.data.padding_free,
        "eval_packing": False,
        # Only packing is left for TRL to do.
        "dataset_kwargs": {"skip_prepare_dataset": not config.packing},
    }


def pack(rows: Dataset, settings: dict[str, Any]) -> Dataset:
    """Return the rows packed as the trainer packs them."""
    return pack_dataset(rows, settings["max_length"], settings["packing_strategy"])


def collate(rows: Sequence[dict[str, Any]], settings: dict[str, Any], pad: int) -> dict[str, Any]:
    """Return a batch of rows as the trainer lays it out."""
    end_to_end = settings["packing"] and settings["packing_strategy"] in END_TO_END
    collator = DataCollatorForLanguageModeling(
        pad_token_id=pad, padding_free=settings["padding_free"] or end_to_end
    )
    batch: dict[str, Any] = collator(list(rows))
    return batch
