"""Token embeddings that are borrowed from another model, as they are or through an adapter."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel


class AdaptedEmbedding(nn.Module):
    """A frozen embedding of any width, and two matrices that map it to the width of a model."""

    def __init__(self, source: torch.Tensor, width: int, hidden: int) -> None:
        """Take weights, (tokens, source width); `hidden` is the size between the matrices."""
        super().__init__()
        self.source = nn.Embedding.from_pretrained(source.clone())
        like = {"device": source.device, "dtype": source.dtype, "bias": False}
        self.down = nn.Linear(source.shape[1], hidden, **like)
        self.up = nn.Linear(hidden, width, **like)

    @property
    def weight(self) -> torch.Tensor:
        """The embedding that the three matrices amount to, (tokens, width)."""
        return self.up(self.down(self.source.weight))

    @property
    def num_embeddings(self) -> int:
        """How many tokens have a row."""
        return self.source.num_embeddings

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of tokens: (batch, seq) int64 to (batch, seq, width)."""
        return self.up(self.down(self.source(input_ids)))


def borrow_embeddings(
    model: PreTrainedModel, source: torch.Tensor, *, adapter: int | None = None, seed: int = 0
) -> None:
    """Give a model the token embeddings of another; freezing them is left to the stage.

    Args:
        model: causal model with as many tokens as the source; with an adapter its head must not
            be tied to its embeddings.
        source: (tokens, width), the weights of the other embedding.
        adapter: size between the two matrices of an adapter; None for weights as they are.
        seed: seed of the adapter.

    Raises:
        ValueError: numbers of tokens or widths differ, or the head is tied.
    """
    own = model.get_input_embeddings().weight
    source = source.detach().to(own.device, own.dtype)
    if len(source) != len(own) or (adapter is None and source.shape != own.shape):
        sizes = f"{tuple(source.shape)} and {tuple(own.shape)}"
        raise ValueError(f"The embeddings do not have the same size: {sizes}.")
    if adapter is None:
        with torch.no_grad():
            own.copy_(source)
        return
    if model.config.tie_word_embeddings:
        raise ValueError("The head is tied to the embeddings, so they cannot have an adapter.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = AdaptedEmbedding(source.cpu(), own.shape[1], adapter)
    model.set_input_embeddings(adapted.to(own.device))


def fold_embeddings(model: PreTrainedModel) -> None:
    """Replace an adapted embedding by one of its own weights, as a normal model has."""
    adapted = model.get_input_embeddings()
    if isinstance(adapted, AdaptedEmbedding):
        weights = adapted.weight.detach().clone()
        padding = model.config.pad_token_id
        model.set_input_embeddings(
            nn.Embedding.from_pretrained(weights, freeze=False, padding_idx=padding)
        )
