"""Perplexity and bits per byte of evaluation rows.

Perplexity is exp(nats / tokens), and bits per byte is nats / (ln 2 x bytes). `nats` is the summed
loss of all trained tokens of the evaluation rows, `bytes` the UTF-8 length of their text. Special
tokens, such as the one that ends an answer, count as tokens but have no bytes. Bits per byte do
not depend on the tokenizer, so models with different tokenizers can be compared: Gao et al., The
Pile, 2020, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

from modelforge.modeling.tokenize.encode import IGNORE_INDEX

BATCH_SIZE = 256


class PerplexityMeter:
    """Adds up batches of evaluation rows; `size` is the number of bytes of their trained text."""

    def __init__(self, size: int) -> None:
        self._bytes = size
        self._nats = 0.0
        self._tokens = 0

    def reset(self) -> None:
        """Forget the last evaluation."""
        self._nats, self._tokens = 0.0, 0

    def add(self, loss: float, labels: Any) -> None:
        """Add a batch by its mean loss; `labels`: (batch, seq) int64, -100 where not trained."""
        # The first token is never predicted.
        tokens = int((labels[..., 1:] != IGNORE_INDEX).sum())
        self._nats += loss * tokens
        self._tokens += tokens

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics so far; empty without a token or a byte."""
        if not self._tokens or not self._bytes or not math.isfinite(self._nats):
            return {}
        mean = self._nats / self._tokens
        return {
            # exp of more than 709 overflows a float.
            "perplexity": math.exp(min(mean, 700.0)),
            "bits_per_byte": self._nats / (math.log(2) * self._bytes),
        }


def count_text_bytes(labels: Iterable[list[int]], tokenizer: Any) -> int:
    """Return the UTF-8 bytes of the trained text in these labels, without special tokens."""
    total = 0
    rows = iter(labels)
    while batch := list(islice(rows, BATCH_SIZE)):
        trained = [[token for token in row[1:] if token != IGNORE_INDEX] for row in batch]
        texts = tokenizer.batch_decode(
            trained, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        total += sum(len(text.encode()) for text in texts)
    return total
