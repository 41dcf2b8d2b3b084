"""What a model predicts of the sequences of CORE: losses and the likeliest tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from modelforge.modeling.pretraining.core_score import Encode, Predicted
from modelforge.modeling.pretraining.token_bytes import document_id

# Logits of a forward pass have at most this many numbers: 256 MiB in float32.
MOST_LOGITS = 2**26


@dataclass(frozen=True)
class ModelPredictor:
    """Asks a causal model, in batches whose logits fit; the model must be in evaluation mode.

    Sequences are padded on the right, where causal attention does not see the padding.
    """

    model: Any

    def __call__(self, sequences: Sequence[list[int]]) -> list[Predicted]:
        """Return the predictions of sequences of at least 2 tokens, in their order."""
        vocabulary = int(self.model.config.vocab_size)
        longest = max(len(ids) for ids in sequences)
        count = max(1, MOST_LOGITS // (longest * vocabulary))
        return [
            predicted
            for start in range(0, len(sequences), count)
            for predicted in self._batch(sequences[start : start + count])
        ]

    def _batch(self, sequences: Sequence[list[int]]) -> list[Predicted]:
        ids = pad_sequence([torch.tensor(row) for row in sequences], batch_first=True)
        ids = ids.to(self.model.device)
        with torch.no_grad():
            logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        targets = ids[:, 1:]
        # cross_entropy wants the classes second: (batch, vocabulary, seq).
        losses = cross_entropy(logits.transpose(1, 2), targets, reduction="none").cpu().numpy()
        likeliest = logits.argmax(-1).cpu().numpy()
        return [
            Predicted(losses[at, : len(row) - 1], likeliest[at, : len(row) - 1])
            for at, row in enumerate(sequences)
        ]


def core_encoder(tokenizer: Any) -> Encode:
    """Return the encoder of the texts of CORE: the document token, then the text."""
    first = document_id(tokenizer)

    def encode(text: str) -> list[int]:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)[
            "input_ids"
        ]
        return [first, *ids]

    return encode
