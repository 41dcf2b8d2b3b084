"""Masked-token objective: masks in the batch, attention in both directions, unshifted loss."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

IGNORED = -100
MASK_TOKEN = "<|mask|>"


def use_masked_objective(model: PreTrainedModel) -> None:
    """Let a causal model attend in both directions and predict each token at its own position.

    The attention is stored in the config (`is_causal`), the loss is not. The key-value cache is
    switched off: such a model cannot generate token by token. Batches must not be packed or free
    of padding: Transformers 5.17 keeps texts in one row apart in causal attention only.
    """
    model.config.is_causal = False
    model.config.use_cache = False
    model.loss_type = "ForMaskedLM"


def add_mask_token(model: PreTrainedModel, tokenizer: Any, token: str = "") -> int:
    """Return the id of the mask token; one that is missing is added, with a row in the embeddings.

    Args:
        model: gets more rows where its embeddings have none for the token.
        tokenizer: its `mask_token` is set.
        token: a token of the vocabulary; empty for the tokenizer's own, else a new one.

    Raises:
        ValueError: `token` is not in the vocabulary.
    """
    if token and token not in tokenizer.get_vocab():
        raise ValueError(f"{token!r} is not a token of the tokenizer.")
    if token or tokenizer.mask_token is None:
        tokenizer.add_special_tokens({"mask_token": token or MASK_TOKEN})
    if tokenizer.mask_token_id >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(tokenizer.mask_token_id + 1)
    return int(tokenizer.mask_token_id)


def mask_tokens(
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    fraction: float,
    mask_id: int,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs with masks, and labels at the masked positions only.

    In each row the rounded share of the labelled positions is masked, at least one of them.

    Args:
        input_ids: (batch, seq) int64 on the CPU.
        labels: (batch, seq) int64, -100 where nothing may be masked.
        fraction: share of the labelled positions, from 0 to 1.
        mask_id: id of the mask token.
        generator: source of the random numbers; None for torch's own.
    """
    is_candidate = labels != IGNORED
    scores = torch.rand(labels.shape, generator=generator).masked_fill(~is_candidate, 2.0)
    counts = (is_candidate.sum(-1, keepdim=True) * fraction).round().clamp(min=1)
    is_masked = is_candidate & (scores.argsort(-1).argsort(-1) < counts)
    return input_ids.masked_fill(is_masked, mask_id), labels.masked_fill(~is_masked, IGNORED)


@dataclass(frozen=True)
class MaskingCollator:
    """Masks the batches of another collator.

    Attributes:
        collate: returns a batch with `input_ids` and `labels`.
        fractions: shares; each batch takes one at random.
        mask_id: id of the mask token.
        is_fixed: whether the same batch always has the same masks, for evaluations.
    """

    collate: Callable[[list[Any]], dict[str, Any]]
    fractions: Sequence[float]
    mask_id: int
    is_fixed: bool = False

    def __call__(self, examples: list[Any]) -> dict[str, Any]:
        """Return the masked batch.

        The labels are also its `shift_labels`: Transformers' trainer counts these, and TRL's loss
        in chunks takes them, without moving them by one.
        """
        batch = self.collate(examples)
        ids, labels = batch["input_ids"], batch["labels"]
        generator = None
        if self.is_fixed:
            generator = torch.Generator().manual_seed(zlib.crc32(ids.numpy().tobytes()))
        index = int(torch.randint(len(self.fractions), (), generator=generator))
        ids, labels = mask_tokens(ids, labels, self.fractions[index], self.mask_id, generator)
        return {**batch, "input_ids": ids, "labels": labels, "shift_labels": labels}
