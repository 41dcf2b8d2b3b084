"""Weights of the loss of single tokens in TRL's supervised training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from modelforge.modeling.tokenize.dataset import LOSS_WEIGHTS
from modelforge.modeling.tokenize.encode import IGNORE_INDEX
from modelforge.train.trainer.chunked_loss import weight_chunk_losses
from modelforge.train.trainer.private import ExtraColumnMixin


class LossWeightMixin(ExtraColumnMixin):
    """Mixed into a TRL trainer whose loss is computed in chunks, before all other bases.

    In training the loss of each token is multiplied by its weight and the sum divided by the
    number of trained tokens. Evaluation counts every trained token once.
    """

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch, weighted if the batch has weights."""
        weights = inputs.pop(LOSS_WEIGHTS, None)
        if weights is None or not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        is_trained = inputs["labels"][:, 1:] != IGNORE_INDEX
        with weight_chunk_losses(weights[:, 1:][is_trained]):
            return super().compute_loss(model, inputs, *args, **kwargs)


@dataclass(frozen=True)
class WeightCollator:
    """Collates a batch with another collator, and adds the weight of each token."""

    collate: Any

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch with `loss_weights`, float32 of the shape of `labels`."""
        others = [
            {name: value for name, value in example.items() if name != LOSS_WEIGHTS}
            for example in examples
        ]
        batch: dict[str, Any] = self.collate(others)
        if LOSS_WEIGHTS not in examples[0]:
            return batch
        weights = [torch.tensor(example[LOSS_WEIGHTS]) for example in examples]
        shape = batch["labels"].shape
        if shape[0] == 1:
            weights = [torch.cat(weights)]
        padded = pad_sequence(weights, batch_first=True)
        batch[LOSS_WEIGHTS] = torch.nn.functional.pad(padded, (0, shape[1] - padded.shape[1]))
        return batch
